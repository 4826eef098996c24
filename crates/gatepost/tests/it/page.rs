//! The status page in a real Chromium, while the house has a few hundred sessions, a stream of logins, a backend that dies and
//! visitors with hostile names.
//!
//! `GATEPOST_SCREENSHOT=1` lets the load go on for some minutes and writes `docs/status-page.png` anew.

use crate::gate::{Gate, POP3_TOO, Want, config, echo_backend, everybody_at};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use testkit::chromium::Chromium;
use testkit::peer::{AnyClient, Backend, Client, Conn, FakeServer};
use testkit::wait::{PATIENCE, poll};
use testkit::{Dir, Protocol, real};

const TOKEN: &str = "correct-horse-battery-staple";
const ADMIN: &str = "[admin]\naddress = [\"127.0.0.1:0\"]\ntoken_file = \"token\"\n";
/// Names that want to be markup, a mask, another direction of writing, or just very long; and how the page spells them.
const HOSTILE: [(&str, &str); 4] = [
    ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    ("\u{202e}moc.elpmaxe@ecila", "\\xe2\\x80\\xaemoc.elpmaxe@ecila"),
    ("*", "*"),
    ("\"><script>document.title='taken'</script>", "\"><script>document.title='taken'</script>"),
];
const NAMES: [&str; 12] = ["ada", "bela", "chen", "dora", "emil", "farah", "goran", "hana", "ines", "jonas", "katya", "lars"];

/// Where the admin API listens for TCP.
fn admin_of(gate: &Gate) -> String {
    gate.gatepost.wait_for("admin API on").trim_end_matches('"').rsplit(' ').next().unwrap().to_owned()
}

/// A mail server with a mailbox: `FETCH n` brings n octets.
fn mailbox(conn: &mut Conn) {
    if Backend::default().login(conn).is_none() {
        return;
    }
    conn.set_patience(Duration::from_secs(600));
    while let Some(line) = conn.read_line() {
        let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let octets = rest.strip_prefix("FETCH ").and_then(|n| n.parse().ok()).unwrap_or(0);
        let last = if rest == "LOGOUT" { "* BYE\r\n" } else { "" };
        let sent = conn.try_send(format!("{}{last}{tag} OK Done.\r\n", format!("* {}\r\n", "x".repeat(78)).repeat(octets / 82)));
        if sent.is_err() || !last.is_empty() {
            return;
        }
    }
}

/// A house at work.
struct Town {
    gate: Gate,
    imap: Vec<FakeServer>,
    _pop3: FakeServer,
    on: Vec<(String, AnyClient)>,
    visitors: AtomicU32,
}

impl Town {
    fn new() -> Town {
        let ip = |n: u8| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n));
        let imap: Vec<FakeServer> =
            (11..15).map(|n| FakeServer::start_at(SocketAddr::new(ip(n), 0), |mut conn| mailbox(&mut conn))).collect();
        let pop3 = FakeServer::start_at(SocketAddr::new(ip(21), 0), |mut conn| {
            if Backend::of(Protocol::Pop3).login(&mut conn).is_some() {
                conn.set_patience(Duration::from_secs(600));
                while conn.read_line().is_some() && conn.try_send("+OK\r\n").is_ok() {}
            }
        });
        let dir = Dir::new();
        let mut rows = String::new();
        for n in 0..400 {
            let at = if is_pop3(n) { pop3.addr() } else { imap[[0, 0, 0, 0, 1, 1, 1, 2, 2, 3][n % 10]].addr() };
            rows += &format!("{}:{{PLAIN}}right::::::host={} port={}\n", name(n), at.ip(), at.port());
        }
        dir.write("users", rows);
        dir.write("token", TOKEN);
        let users = "[[users]]\nname = \"people\"\ndriver = \"passwd-file\"\npath = \"users\"\n\
                     override_fields = { proxy = \"y\", proxy_timeout = \"1\", proxy_host_immediate_failure_after = \"1\" }\n";
        let more = format!("{POP3_TOO}{ADMIN}");
        let want = Want { users, more: &more, trust: "networks = [\"127.0.0.1\"]", ..Default::default() };
        let text = config(&want).replace("gate.test", "mx1.example.com").replace("level = \"debug\"", "level = \"info\"");
        let gate = Gate::start_with(dir, &text);
        Town { gate, imap, _pop3: pop3, on: Vec::new(), visitors: AtomicU32::new(0) }
    }

    /// A client from an address of its own.
    fn visitor(&self, protocol: Protocol) -> AnyClient {
        let n = self.visitors.fetch_add(1, Ordering::Relaxed);
        let mut client = self.gate.any_client(protocol);
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + n);
        client.introduce(SocketAddr::new(ip.into(), 40_000), &format!("visit-{n}"), 5);
        client
    }

    /// Signs in user number `n`, who stays.
    fn arrive(&mut self, n: usize) {
        let mut client = self.visitor(if is_pop3(n) { Protocol::Pop3 } else { Protocol::Imap });
        let outcome = client.login(&name(n), "right");
        assert!(outcome.ok, "{}: {}", name(n), outcome.text);
        self.on.push((name(n), client));
    }

    fn fail(&self, user: &str, times: usize) {
        for _ in 0..times {
            assert!(!self.visitor(Protocol::Imap).authenticate_plain("", user, "guess").ok, "{user}");
        }
    }

    /// Who has a connection still: all others are struck off.
    fn take(&mut self, user: &str) -> AnyClient {
        let at = self.on.iter().position(|(name, _)| name == user).unwrap();
        self.on.swap_remove(at).1
    }
}

fn is_pop3(n: usize) -> bool {
    n % 8 == 7
}

fn name(n: usize) -> String {
    format!("{}{}@example.com", NAMES[n % NAMES.len()], n / NAMES.len() + 1)
}

/// Logins that come and go, and mail that is read, until told to stop.
fn stream(town: &Town, readers: &mut [Client], stop: &AtomicBool) {
    let began = Instant::now();
    for n in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // Not evenly: a chart shows more of what changes.
        let wave = 4 + usize::try_from((began.elapsed().as_secs() % 60).abs_diff(30)).unwrap();
        // Those of the backend that dies come seldom; and everybody comes by the protocol of their row.
        let who = if n % 10 == 9 && n % 50 != 9 { n + 1 } else { n } % 320;
        let mut client = town.visitor(if is_pop3(who) { Protocol::Pop3 } else { Protocol::Imap });
        let _ = client.login(&name(who), if n % 19 != 0 { "right" } else { "wrong" });
        let count = readers.len();
        if let Some(reader) = readers.get_mut(n % count.max(1)) {
            reader.command(format!("FETCH {}", 400 * wave + n % 7 * 900));
        }
        std::thread::sleep(Duration::from_millis(400) / u32::try_from(wave).unwrap());
    }
}

#[test]
fn the_page_under_load() {
    let Some(_) = real::require("chromium") else { return };
    let shoot = std::env::var("GATEPOST_SCREENSHOT").is_ok_and(|v| v == "1");
    let mut town = Town::new();
    (0..240).for_each(|n| town.arrive(n));
    let mut readers: Vec<Client> = Vec::new();
    for n in (300..400).filter(|n| !is_pop3(*n) && n % 10 < 9).take(16) {
        let mut client = town.gate.client();
        assert!(client.login(&name(n), "right").is_ok());
        readers.push(client);
    }
    for (n, (user, _)) in HOSTILE.iter().enumerate() {
        town.fail(user, 14 - 2 * n);
    }
    town.fail("mallory@example.com", 24);
    town.fail(&"x".repeat(512), 1);
    town.fail("line\nbreak", 1);
    let lost = town.imap.pop().unwrap();
    let lost_at = lost.addr();

    let stop = AtomicBool::new(false);
    let browser = Chromium::start();
    let admin = admin_of(&town.gate);
    std::thread::scope(|scope| {
        // Whatever fails here must not leave the stream running.
        let _stopped = Stop(&stop);
        let (streaming, readers) = (&town, &mut readers);
        scope.spawn(|| stream(streaming, readers, &stop));
        if shoot {
            std::thread::sleep(Duration::from_secs(200));
        }
        drop(lost);
        asks_for_the_token(&browser, &admin);
        shows_what_is(&browser, &town, lost_at);
        if shoot {
            std::thread::sleep(Duration::from_secs(90));
        }
        looks_well(&browser, town.gate.gatepost.dir(), shoot);
    });

    kicks(&browser, &mut town);
    drains(&browser, &town, &admin);
    rests_while_nobody_looks(&browser);

    let complaints = browser.console();
    let expected = |text: &str| text.contains("/v1/") && text.contains("401 (Unauthorized)");
    assert!(complaints.iter().all(|(_, text)| expected(text)), "{complaints:#?}");
    let asked = browser.requested();
    assert!(asked.iter().any(|url| url.ends_with("/v1/status")));
    let own = |url: &String| url.starts_with(&format!("http://{admin}/")) || url.starts_with("data:image/svg+xml");
    assert!(asked.iter().all(own), "{:#?}", asked.iter().filter(|url| !own(url)).collect::<Vec<_>>());

    // Even if a name were taken for markup it could not run.
    browser.script("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.taken = 1\">')");
    browser.wait_for("[...document.images].every(image => image.complete)");
    assert!(browser.script("return window.taken ?? null").is_null());
    assert!(browser.console().iter().any(|(_, text)| text.contains("Content Security Policy")));

    let Town { gate, on, imap, _pop3, .. } = town;
    drop(on);
    gate.gatepost.stop();
    browser.wait_for("document.getElementById('phase').dataset.phase === 'unreachable'");
    browser.wait_for("/No answer from the server since/.test(document.getElementById('trouble').innerText)");
    drop((imap, _pop3));
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn asks_for_the_token(browser: &Chromium, admin: &str) {
    browser.open(&format!("http://{admin}/"));
    browser.wait_for("!document.getElementById('door').hidden");
    assert_eq!(browser.script("return document.getElementById('house').hidden"), true);
    assert_eq!(browser.script("return document.activeElement.id"), "token");
    browser.type_into("#token", "not-the-token-at-all\u{e007}");
    browser.wait_for("/not the token/.test(document.getElementById('wrong').innerText)");
    assert!(browser.script("return sessionStorage.getItem('gatepost-token')").is_null(), "a wrong one is not kept");
    browser.type_into("#token", &format!("{TOKEN}\u{e007}"));
    browser.wait_for("!document.getElementById('house').hidden");
    let kept = browser.script("return [sessionStorage.length, localStorage.length, document.cookie, location.href]");
    assert_eq!(kept, serde_json::json!([1, 0, "", format!("http://{admin}/")]));
}

fn shows_what_is(browser: &Chromium, town: &Town, lost: SocketAddr) {
    browser.wait_for("document.getElementById('name').innerText === 'mx1.example.com'");
    browser.wait_for("document.getElementById('phase').innerText === 'serving'");
    // Three samples at least: lines and areas for each backend, logins and traffic.
    browser.wait_for("document.querySelectorAll('#c-sessions path.line').length >= 4");
    browser.wait_for("/signed in\\s*[1-9]/.test(document.querySelector('#c-logins .legend').innerText)");
    browser.wait_for("/to clients\\s*[1-9]/.test(document.querySelector('#c-traffic .legend').innerText)");
    for backend in &town.imap {
        let legend = format!("document.querySelector('#c-sessions .legend').innerText.includes('{}')", backend.addr());
        browser.wait_for(&legend);
    }
    // Both ways to split them, by keyboard.
    browser.type_into("#split input", "\u{e014}");
    browser.wait_for("/imap.*pop3/s.test(document.querySelector('#c-sessions .legend').innerText)");
    browser.type_into("#split input[value=protocol]", "\u{e012}");

    // The dead one comes first, with its trouble.
    browser.wait_for("document.querySelector('#backends .state').innerText === 'down'");
    let first = browser.script("return document.querySelector('#backends tbody tr').innerText");
    let first = first.as_str().unwrap();
    assert!(first.contains(&lost.to_string()) && first.to_lowercase().contains("refused"), "{first}");
    browser.wait_for("/down/.test(document.getElementById('t-states').innerText)");

    // Names are what they are, and nothing else.
    for (_, shown) in HOSTILE {
        let cell = format!(
            "[...document.querySelectorAll('#failures td.user bdi')].some(one => one.textContent === {})",
            serde_json::json!(shown)
        );
        browser.wait_for(&cell);
    }
    assert_eq!(browser.script("return document.querySelectorAll('main img, main script').length"), 0);
    assert_eq!(browser.script("return document.title"), "Gatepost mx1.example.com");
    let mallory = "return [...document.querySelectorAll('#failures tbody tr')].map(row => row.innerText.split(/\\s+/))";
    let rows = browser.script(mallory);
    let mallory = rows.as_array().unwrap().iter().find(|row| row[0] == "mallory@example.com").unwrap();
    assert_eq!((&mallory[1], &mallory[2]), (&"24".into(), &"credentials".into()));

    // What the tiles say is what the API says, give or take those who come and go.
    let sessions = browser.script("return Number(document.getElementById('t-sessions').innerText)").as_u64().unwrap();
    assert!((200..300).contains(&sessions), "{sessions}");
    assert_eq!(browser.script("return document.querySelectorAll('#sessions tbody tr').length"), 50);
}

/// Neither on a phone nor on a wide screen is anything cut off or wider than the window, and a picture is taken.
fn looks_well(browser: &Chromium, dir: &Dir, shoot: bool) {
    let mut sizes = Vec::new();
    for (width, scheme) in [(360, "light"), (1600, "light"), (360, "dark"), (1280, "dark"), (1280, "light")] {
        browser.look(width, 900, scheme);
        browser.script("document.activeElement.blur()");
        browser.wait_for(&format!("document.querySelector('#c-sessions svg').viewBox.baseVal.width > {}", width / 2));
        let wide = browser.script("return document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{wide} at {width}");
        let names = "return Math.min(...[...document.querySelectorAll('#backends td bdi, #failures td bdi')].filter(one => \
                     one.textContent).map(one => Math.min(one.offsetWidth, one.textContent.length * 4)))";
        assert!(browser.script(names).as_u64().unwrap() >= 4, "a value is squeezed at {width}");
        let ground = browser.script("return getComputedStyle(document.body).backgroundColor");
        // Down to the first connections: one row looks like the next.
        let row = "document.querySelectorAll('#sessions tbody tr')[8]";
        let bottom = browser.script(&format!("return Math.floor({row}.getBoundingClientRect().top + scrollY)"));
        let height = u32::try_from(bottom.as_u64().unwrap()).unwrap();
        let picture = browser.screenshot(width, height);
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.len() > 20_000, "{} octets", picture.len());
        dir.write(format!("page-{width}-{scheme}.png"), &picture);
        sizes.push((picture, ground));
    }
    assert_ne!(sizes[0].1, sizes[2].1, "dark is another colour");
    if shoot {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/status-page.png");
        let Some(python) = real::require("python3") else { return };
        let palette = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/page_palette.py");
        let picture = dir.join("page-1280-light.png");
        assert!(Command::new(python).arg(palette).arg(picture).arg(&docs).status().unwrap().success());
        let size = std::fs::metadata(docs).unwrap().len();
        assert!((20_000..200_000).contains(&size), "{size} octets");
    }
}

fn kicks(browser: &Chromium, town: &mut Town) {
    let user = name(12);
    let mut client = town.take(&user);
    browser.type_into("#find", &user);
    let row = "document.querySelectorAll('#sessions tbody td.user').length";
    browser.wait_for(&format!("{row} === 1 && document.querySelector('#sessions td.user').innerText.startsWith('{user}')"));
    // First not: a dialog asks, and Escape is no.
    browser.click("#sessions td.orders button");
    browser.wait_for("document.getElementById('confirm').open");
    browser.wait_for("/^1 connection now/.test(document.getElementById('about').innerText)");
    browser.type_into("#no", "\u{e00c}");
    browser.wait_for("!document.getElementById('confirm').open");
    assert!(client.noop().ok);
    browser.click("#sessions td.orders button");
    browser.wait_for("document.getElementById('confirm').open");
    browser.click("#yes");
    browser.wait_for("document.getElementById('said').innerText === '1 connection kicked'");
    assert!(String::from_utf8_lossy(&client.read_to_end()).contains("* BYE "));
    browser.wait_for("document.querySelector('#sessions td.nothing')?.innerText === 'Nobody has such a name.'");
    browser
        .script("document.getElementById('find').value = ''; document.getElementById('find').dispatchEvent(new Event('input'))");

    // All of one backend, and nobody else.
    let backend = town.imap[2].addr().to_string();
    let there =
        format!("[...document.querySelectorAll('#backends tbody tr')].find(row => row.innerText.startsWith('{backend}'))");
    browser.wait_for(&format!("Number({there}.cells[2].innerText) > 20"));
    browser.script(&format!("{there}.querySelector('button').click()"));
    browser.wait_for("document.getElementById('confirm').open");
    browser.click("#yes");
    browser.wait_for(&format!("{there}.cells[2].innerText === '0'"));
    let mut ada = town.take(&name(0));
    assert!(ada.noop().ok, "others stay");
    town.on.push((name(0), ada));
}

fn drains(browser: &Chromium, town: &Town, admin: &str) {
    let ready = || http(TcpStream::connect(admin).unwrap(), "GET /readyz HTTP/1.1").0;
    assert_eq!(ready(), 200);
    for (word, code) in [("draining", 503), ("serving", 200)] {
        browser.click("#drain");
        browser.wait_for("document.getElementById('confirm').open");
        browser.click("#yes");
        browser.wait_for(&format!("document.getElementById('phase').innerText === '{word}'"));
        assert_eq!(ready(), code);
    }
    town.gate.gatepost.log().wait_for("balancers may come again");
}

/// A tab that nobody sees asks for nothing, and goes on when it is seen again.
fn rests_while_nobody_looks(browser: &Chromium) {
    let see = |hidden: bool| {
        browser.script(&format!(
            "Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {hidden} }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    let asked = "return performance.getEntriesByType('resource').filter(one => one.name.endsWith('/v1/status')).length";
    browser.script("performance.setResourceTimingBufferSize(100000); performance.clearResourceTimings()");
    browser.wait_for(&format!("(() => {{ {asked} }})() > 0"));
    see(true);
    // One may be under way.
    std::thread::sleep(Duration::from_millis(500));
    let before = browser.script(asked);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(browser.script(asked), before);
    see(false);
    browser.wait_for(&format!("(() => {{ {asked} }})() > {before}"));
}

/// One HTTP request on a stream: status, head and body.
fn http(mut stream: impl Read + Write, request: &str) -> (u16, String, String) {
    stream.write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn its_files_need_no_token_and_carry_strict_headers() {
    let backend = echo_backend();
    let dir = Dir::new();
    dir.write("token", TOKEN);
    let users = everybody_at(backend.addr(), "");
    let gate = Gate::start_with(dir, &config(&Want { users: &users, more: ADMIN, ..Default::default() }));
    let at = admin_of(&gate);
    let socket = gate.gatepost.dir().join("control.sock");
    for (path, kind) in
        [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/charts.js", "text/javascript")]
    {
        let request = format!("GET {path} HTTP/1.1");
        let (status, head, body) = http(TcpStream::connect(&at).unwrap(), &request);
        assert_eq!(status, 200, "{path}");
        assert_eq!(http(UnixStream::connect(&socket).unwrap(), &request).2, body, "the same on the socket");
        for header in [
            format!("content-type: {kind}; charset=utf-8").as_str(),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-cache",
        ] {
            assert!(head.lines().any(|line| line == header), "{path}: {header} in {head}");
        }
        assert!(!body.replace("http://www.w3.org/2000/svg", "").contains("//www."), "{path} names nobody else");
    }
    for path in ["/v1/history", "/v1/failures", "/v1/status"] {
        let request = format!("GET {path} HTTP/1.1");
        assert_eq!(http(TcpStream::connect(&at).unwrap(), &request).0, 401);
        assert_eq!(http(UnixStream::connect(&socket).unwrap(), &request).0, 200);
    }
    // A web server may let a person's browser in without the token: a page of another site must not use that.
    let order = |more: &str| http(UnixStream::connect(&socket).unwrap(), &format!("POST /v1/kick?all=1 HTTP/1.1\r\n{more}")).0;
    assert_eq!(order("Sec-Fetch-Site: cross-site"), 403);
    assert_eq!(order("Origin: http://evil.example"), 403);
    assert_eq!(order("Origin: http://x"), 200);
    assert_eq!(order("Sec-Fetch-Site: same-origin"), 200);
}

#[test]
fn history_and_failures_tell_what_happened() {
    let backend = echo_backend();
    let dir = Dir::new();
    dir.write("users", "alice:{PLAIN}right\n");
    let (ip, port) = (backend.addr().ip(), backend.addr().port());
    let users = format!(
        "[[users]]\ndriver = \"passwd-file\"\npath = \"users\"\noverride_fields = {{ proxy = \"y\", host = \"{ip}\", port = \"{port}\" }}\n"
    );
    let gate = Gate::start_in(dir, &Want { users: &users, trust: "networks = [\"127.0.0.1\"]", ..Default::default() });
    let ask = |path: &str| -> (u16, serde_json::Value) {
        let (status, _, body) =
            http(UnixStream::connect(gate.gatepost.dir().join("control.sock")).unwrap(), &format!("GET {path} HTTP/1.0"));
        (status, serde_json::from_str(&body).unwrap())
    };
    let mut alice = gate.client();
    assert!(alice.login("alice", "right").is_ok());
    for (n, user) in [(0, "bob"), (1, "bob"), (2, "alice"), (3, "bob")] {
        let mut client = gate.any_client(Protocol::Imap);
        client.introduce(SocketAddr::new(Ipv4Addr::new(192, 0, 2, n).into(), 1), "s", 5);
        assert!(!client.login(user, "wrong").ok);
    }
    let (_, said) = ask("/v1/failures");
    assert_eq!((&said["failures"], &said["names"], &said["window"]), (&4.into(), &2.into(), &3600.into()));
    let bob = &said["users"][0];
    assert_eq!((&bob["user"], &bob["failures"], &bob["reason"]), (&"bob".into(), &3.into(), &"credentials".into()));
    assert_eq!((&bob["client"], &bob["protocol"]), (&"192.0.2.3".into(), &"imap".into()));
    assert_eq!(ask("/v1/failures?limit=1").1["users"].as_array().unwrap().len(), 1);

    // A sample comes every five seconds.
    let sum = |list: &serde_json::Value| list.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    let told = poll(PATIENCE, || Some(ask("/v1/history").1).filter(|all| sum(&all["refused"]) >= 4)).expect("a sample");
    assert_eq!((sum(&told["logins"]), sum(&told["refused"])), (1, 4));
    let last = |list: &serde_json::Value| list.as_array().unwrap().last().unwrap().clone();
    assert_eq!((last(&told["sessions"]["imap"]), last(&told["sessions"]["pop3"])), (1.into(), 0.into()));
    assert_eq!(told["backends"][0]["address"], backend.addr().to_string());
    assert_eq!(last(&told["backends"][0]["sessions"]), 1);
    let (_, rest) = ask(&format!("/v1/history?since={}", told["next"]));
    assert_eq!((&rest["first"], &rest["started"]), (&told["next"], &told["started"]));

    // The newest only, and how many there are.
    let silent = gate.client();
    let newest = poll(PATIENCE, || Some(ask("/v1/sessions?limit=1").1).filter(|all| all["total"] == 2)).expect("two");
    assert_eq!((newest["sessions"].as_array().unwrap().len(), &newest["sessions"][0]["state"]), (1, &"talking".into()));
    drop(silent);
    for bad in ["/v1/history?since=x", "/v1/failures?limit=0", "/v1/failures?user=bob", "/v1/sessions?limit=0"] {
        assert_eq!(ask(bad).0, 400, "{bad}");
    }
}
