//! The proxy under test: Gatepost as an operator would run it, with its limits on connections from one address raised.

use crate::{Protocol, Trouble};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running Gatepost. Stopped, and its directory removed, when dropped.
pub struct Proxy {
    child: Child,
    dir: PathBuf,
    /// In clear.
    pub clear: SocketAddr,
    /// With TLS: from the first byte, or, where there is no such port, by STARTTLS.
    pub tls: SocketAddr,
    /// The certificate that signs it, DER.
    pub ca: Vec<u8>,
}

impl Proxy {
    /// Starts it in front of a backend.
    pub fn start(backend: SocketAddr, protocol: Protocol) -> Result<Proxy, Trouble> {
        let program = std::env::current_exe()?.with_file_name("gatepost");
        if !program.exists() {
            return Err(format!("{} is missing: build it with cargo build --release -p gatepost", program.display()).into());
        }
        let dir = std::env::temp_dir().join(format!("gatepost-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        std::fs::write(dir.join("cert.pem"), certified.cert.pem())?;
        std::fs::write(dir.join("key.pem"), certified.signing_key.serialize_pem())?;
        std::fs::write(dir.join("gatepost.toml"), config(backend, protocol))?;
        let ports_file = dir.join("ports");
        let log = std::fs::File::create(dir.join("log"))?;
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(dir.join("gatepost.toml"))
            .arg("--ports-file")
            .arg(&ports_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Proxy { child, dir, clear: unset, tls: unset, ca: certified.cert.der().to_vec() };
        let ports = proxy.wait_for_ports(&ports_file)?;
        for line in ports.lines() {
            let mut words = line.split(' ').skip(1);
            match (words.next(), words.next()) {
                (Some("implicit" | "starttls"), Some(address)) => proxy.tls = address.parse()?,
                (Some(_), Some(address)) => proxy.clear = address.parse()?,
                _ => {}
            }
        }
        Ok(proxy)
    }

    fn wait_for_ports(&mut self, file: &Path) -> Result<String, Trouble> {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Ok(text) = std::fs::read_to_string(file) {
                return Ok(text);
            }
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(format!("gatepost ended ({status}):\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("gatepost does not listen within 20 s".into())
    }

    /// Proportional set size in KiB, from the kernel's own account (/proc/PID/smaps_rollup).
    pub fn pss_kib(&self) -> Result<u64, Trouble> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find(|line| line.starts_with("Pss:")).ok_or("smaps_rollup has no Pss line")?;
        Ok(line.split_whitespace().nth(1).ok_or("Pss line without a number")?.parse()?)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn config(backend: SocketAddr, protocol: Protocol) -> String {
    let (clear, tls) = (protocol.name(), protocol.implicit().unwrap_or_else(|| protocol.name().to_owned()));
    format!(
        r#"version = 1
[server]
name = "bench.localhost"
control = "control.sock"
[tls]
certificates = [{{ cert = "cert.pem", key = "key.pem" }}]
[[listen]]
protocol = "{clear}"
address = "127.0.0.1:0"
tls = "none"
[[listen]]
protocol = "{tls}"
address = "127.0.0.1:0"
[[users]]
driver = "static"
fields = {{ proxy = "y", nopassword = "y", host = "{}", port = "{}" }}
[limits]
connections_before_login = 1000000
user_connections = 1000000
[log]
level = "error"
"#,
        backend.ip(),
        backend.port()
    )
}
