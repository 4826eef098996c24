//! The process as the kernel sees it, under the names that all Prometheus clients use.

use super::exposition::{Kind, Page};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Writes what there is: where `/proc` is not readable, less.
pub(super) fn write(page: &mut Page, started: f64) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu =
        std::time::Duration::new(u64::try_from(cpu.tv_sec).unwrap_or_default(), u32::try_from(cpu.tv_nsec).unwrap_or_default());
    page.one("process_cpu_seconds_total", Kind::Counter, "CPU time of this process.", format_args!("{:.3}", cpu.as_secs_f64()));
    page.one("process_start_time_seconds", Kind::Gauge, "When this process began, since 1970.", format_args!("{started:.3}"));
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // Reading the directory is one of them.
        page.one("process_open_fds", Kind::Gauge, "Open descriptors.", open.count().saturating_sub(1));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.one("process_max_fds", Kind::Gauge, "How many descriptors may be open.", most);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    for (line, name, help) in [
        ("VmRSS:", "process_resident_memory_bytes", "Memory that is in use."),
        ("VmSize:", "process_virtual_memory_bytes", "Address space that is taken."),
    ] {
        if let Some(bytes) = bytes(line) {
            page.one(name, Kind::Gauge, help, bytes);
        }
    }
}
