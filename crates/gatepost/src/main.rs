//! The program `gatepost`.

use std::process::ExitCode;

/// Sessions come and go by the thousand: jemalloc gives their memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    gatepost::cli::main()
}
