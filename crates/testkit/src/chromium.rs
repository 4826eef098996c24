//! A real Chromium without a window, driven over the WebDriver protocol (and Chromium's own, where that has no word).
//!
//! `chromedriver` starts it in its own process group, so it ends with this value. All that both write is below a private
//! directory: profile, home, logs. It asks nobody but the page: background networking, updates and sync are off, and
//! [`Chromium::requested`] tells what was asked for.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::process::Process;
use crate::wait::{PATIENCE, poll};
use crate::{Dir, real};

/// The browser itself, not Debian's script around it, which would add what `/etc/chromium.d` says.
const BROWSER: &str = "/usr/lib/chromium/chromium";
/// How a reference to an element is called in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running browser with one tab; ended and removed when dropped.
#[derive(Debug)]
pub struct Chromium {
    driver: SocketAddr,
    session: String,
    _process: Process,
    // Declared last: files go after the processes that use them.
    _dir: Dir,
}

impl Chromium {
    /// Starts one and waits until it takes orders.
    ///
    /// # Panics
    ///
    /// Without a usable Chromium: call [`real::require`] first.
    #[track_caller]
    pub fn start() -> Chromium {
        let program = real::usable("chromium").unwrap_or_else(|missing| panic!("{missing} (ask testkit::real::require first)"));
        let dir = Dir::new();
        let home = dir.create("home");
        let mut command = Command::new(program);
        command.arg("--port=0").current_dir(dir.path()).env("HOME", &home).env("TMPDIR", dir.create("tmp"));
        command.env("XDG_CONFIG_HOME", &home).env("XDG_CACHE_HOME", &home);
        let process = Process::start(command, dir.join("output"));
        let line = process.output().wait_for("was started successfully on port ");
        let port = line.trim_end_matches('.').rsplit(' ').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("chromedriver named no port: {line}"));
        let mut browser = Chromium {
            driver: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            session: String::new(),
            _process: process,
            _dir: dir,
        };
        let profile = format!("--user-data-dir={}", browser._dir.join("profile").display());
        let flags = [
            "--headless",
            // There is no sandbox for root, and in containers none for anybody.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--lang=en-GB",
            profile.as_str(),
        ];
        let said = browser.ask(
            "POST",
            "/session",
            &json!({ "capabilities": { "alwaysMatch": {
                "browserName": "chrome",
                "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
                "goog:chromeOptions": { "binary": BROWSER, "args": flags },
            } } }),
        );
        said["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {said}")).clone_into(&mut browser.session);
        // The browser's own first page is not what anybody wants to hear of.
        browser.open("about:blank");
        let _ = (browser.requested(), browser.console());
        browser
    }

    /// Loads a page.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.order("POST", "/url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page: what it returns.
    #[track_caller]
    pub fn script(&self, body: &str) -> Value {
        self.order("POST", "/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn wait_for(&self, expression: &str) {
        let body = format!("return !!({expression})");
        if poll(PATIENCE, || (self.script(&body) == true).then_some(())).is_none() {
            let text = self.script("return document.body.innerText");
            panic!("waited {} s for this in the page, in vain: {expression}; it reads {text:#}", PATIENCE.as_secs());
        }
    }

    /// Clicks on an element as a person would: it must be visible, and nothing in front of it.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.order("POST", &format!("/element/{}/click", self.find(selector)), &json!({}));
    }

    /// Types into an element. Special keys are characters of their own: `\u{e007}` is Enter, `\u{e004}` Tab, `\u{e00c}` Escape.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        self.order("POST", &format!("/element/{}/value", self.find(selector)), &json!({ "text": text }));
    }

    /// The size of the page in pixels, and the scheme of colours that the person prefers: `light` or `dark`.
    #[track_caller]
    pub fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", &size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// A PNG of the upper left part of the page, also of what is below the fold.
    #[track_caller]
    pub fn screenshot(&self, width: u32, height: u32) -> Vec<u8> {
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let how = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let said = self.command("Page.captureScreenshot", &how);
        let data = said["data"].as_str().unwrap_or_else(|| panic!("no screenshot: {said}"));
        base64::engine::general_purpose::STANDARD.decode(data).expect("a screenshot is base64")
    }

    /// What the page and the browser wrote to the console since the last call: level and text.
    #[track_caller]
    pub fn console(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.log("browser").iter().map(|line| (word(&line["level"]), word(&line["message"]))).collect()
    }

    /// The addresses of all that was asked for since the last call.
    #[track_caller]
    pub fn requested(&self) -> Vec<String> {
        let urls = self.log("performance").into_iter().filter_map(|line| {
            let event: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let event = &event["message"];
            (event["method"] == "Network.requestWillBeSent")
                .then(|| event["params"]["request"]["url"].as_str().map(str::to_owned))?
        });
        urls.collect()
    }

    #[track_caller]
    fn log(&self, kind: &str) -> Vec<Value> {
        self.order("POST", "/se/log", &json!({ "type": kind })).as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn find(&self, selector: &str) -> String {
        let found = self.order("POST", "/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    /// A command of Chromium's own protocol.
    #[track_caller]
    fn command(&self, name: &str, parameters: &Value) -> Value {
        self.order("POST", "/goog/cdp/execute", &json!({ "cmd": name, "params": parameters }))
    }

    #[track_caller]
    fn order(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    /// One request to the driver: its `value`.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.driver,
            body.len()
        );
        let answer = exchange(self.driver, &(head + &body)).unwrap_or_else(|e| panic!("{method} {path}: chromedriver: {e}"));
        let json = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let said: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{method} {path}: {e} in {answer}"));
        assert!(said["value"]["error"].is_null(), "{method} {path}: {} {}", said["value"]["error"], said["value"]["message"]);
        said["value"].clone()
    }
}

/// The driver answers with a length and may keep the connection: so much is read, and no more is waited for.
fn exchange(driver: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(driver)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 16384]);
    loop {
        let octets = stream.read(&mut piece)?;
        answer.extend_from_slice(&piece[..octets]);
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let length = head.and_then(|end| {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())?;
            Some(end + 4 + length)
        });
        if octets == 0 || length.is_some_and(|length| answer.len() >= length) {
            return String::from_utf8(answer).map_err(std::io::Error::other);
        }
    }
}
