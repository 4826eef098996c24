//! How many connections one source address is good for, in a network that has a single port to give.

use relay::dial::{dial, out_of_ports};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use testkit::real;
use tokio::net::TcpListener;

/// Says to the test that it runs in the network it has made.
const INSIDE: &str = "RELAY_IT_ONE_PORT";
/// Loopback up (`SIOCSIFFLAGS`), one ephemeral port, then the program in the arguments.
const ONE_PORT: &str = r#"
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 1))
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as f:
    f.write("40000 40000")
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn one_port_serves_many_destinations() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(inside());
    }
    if !real::require_root("this test makes a network of its own") {
        return;
    }
    let Some(python) = real::require("python3") else { return };
    let allowed = Command::new("unshare").args(["--net", "true"]).output().is_ok_and(|o| o.status.success());
    if !allowed {
        // Root of a container may lack the right to it.
        assert!(std::env::var_os("GATEPOST_REQUIRE_PEERS").is_none_or(|v| v != "1"), "a network of our own is not allowed here");
        let _ =
            std::io::stderr().write_all(b"SKIPPED-REAL-PEER: one_port_serves_many_destinations: unshare --net is not allowed\n");
        return;
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let run = Command::new("unshare")
        .args(["--net", "--"])
        .arg(python)
        .args(["-c", ONE_PORT])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&run.stderr));
}

/// Ports may be fixed here: nobody else is in this network.
async fn inside() {
    let to = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let from: IpAddr = [127, 0, 0, 2].into();
    let _listening = [TcpListener::bind(to(1143)).await.unwrap(), TcpListener::bind(to(1144)).await.unwrap()];
    let one = dial(to(1143), Some(from)).await.unwrap();
    let other = dial(to(1144), Some(from)).await.unwrap();
    let only = SocketAddr::new(from, 40000);
    assert_eq!((one.local_addr().unwrap(), other.local_addr().unwrap()), (only, only));

    let error = dial(to(1143), Some(from)).await.unwrap_err();
    assert!(out_of_ports(&error), "{error}");
    let elsewhere = dial(to(1143), Some([127, 0, 0, 3].into())).await.unwrap();
    assert_eq!(elsewhere.local_addr().unwrap().port(), 40000, "another source still does");
    assert_eq!(dial(to(1145), Some(from)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
