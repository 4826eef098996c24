//! Ten reloads under sessions and logins: nobody is lost, nobody is refused, and what is new is in force.

use crate::gate::{BINARY, OTHERS_TOO, Want, config};
use crate::stream::{Open, Stream, Way};
use std::process::Command;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::{Backend, FakeBackend};
use testkit::{Dir, Protocol};

const RELOADS: usize = 10;

/// Everybody of a protocol lives at the backend of that protocol; clients are shown certificate `n`.
fn generation(n: usize, at: &[&FakeBackend]) -> String {
    let users: String = at
        .iter()
        .map(|backend| {
            let (protocol, port) = (backend.protocol().name(), backend.port());
            format!(
                "[[users]]\nname = \"{protocol}\"\ndriver = \"static\"\nprotocols = [\"{protocol}\"]\n\
                 fields = {{ proxy = \"y\", nopassword = \"y\", host = \"127.0.0.1\", port = \"{port}\" }}\n"
            )
        })
        .collect();
    let text = config(&Want { users: &users, more: OTHERS_TOO, ..Default::default() });
    text.replace("gate.pem", &format!("gate-{n}.pem")).replace("gate.key", &format!("gate-{n}.key"))
}

#[test]
fn thirty_sessions_and_a_stream_of_logins_through_ten_reloads() {
    let one = Protocol::ALL.map(|protocol| FakeBackend::start(Backend::of(protocol)));
    let two = Protocol::ALL.map(|protocol| FakeBackend::start(Backend::of(protocol)));
    let rounds = [one.iter().collect::<Vec<_>>(), two.iter().collect()];
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "gate");
    let first = authority.server("gate-0", &["localhost"]);
    let tls = authority.client_config();
    let mut gatepost = Gatepost::start_in(dir, BINARY, &generation(0, &rounds[0]), |_| {});
    let ways: Vec<Way> = Protocol::ALL
        .into_iter()
        .flat_map(|protocol| {
            let clear = Way { protocol, at: gatepost.addr(protocol.name()), tls: None };
            let tls = protocol.implicit().map(|name| Way { protocol, at: gatepost.addr(name), tls: Some(tls.clone()) });
            [clear].into_iter().chain(tls)
        })
        .collect();
    let mut open = Open::start(&ways, 30);
    assert_eq!(one.iter().map(FakeBackend::concurrent).sum::<usize>(), 30);
    let stream = Stream::start(&ways);

    sees(&ways, first.der(), &rounds[0], "before");
    for n in 1..=RELOADS {
        let fresh = authority.server(&format!("gate-{n}"), &["localhost"]);
        let text = generation(n, &rounds[n % 2]);
        stream.wait_for_more(10);
        let log = gatepost.log().from_here();
        if n % 2 == 0 {
            gatepost.reload_with(&text);
            log.wait_for("the new configuration is in force");
        } else {
            gatepost.dir().write("gatepost.toml", &text);
            let (code, said) = reload(&gatepost);
            assert_eq!(code, Some(0), "{said}");
        }
        sees(&ways, fresh.der(), &rounds[n % 2], &format!("after{n}"));
        open.all_answer();

        // In the middle of it a bad file, in two ways to be bad.
        if n == 5 {
            for (bad, why) in [
                (text.replace("driver = \"static\"", "driver = \"statik\""), "did you mean `static`"),
                (text.replace("gate-5.key", "gate-4.key"), "gate-5.pem"),
            ] {
                let log = gatepost.log().from_here();
                gatepost.reload_with(&bad);
                log.wait_for("the old configuration stays in force");
                let refused = log.lines().into_iter().filter(|line| line.contains(" reload-refused ")).collect::<Vec<_>>();
                assert!(refused.iter().any(|line| line.contains(why)), "no {why} in {refused:#?}");
                let (code, said) = reload(&gatepost);
                assert!(code == Some(78) && said.contains(why), "{code:?} {said}");
                sees(&ways, fresh.der(), &rounds[n % 2], &format!("bad{}", why.len()));
                open.all_answer();
            }
        }
    }
    let served = stream.finish();
    assert!(served >= 10 * RELOADS, "{served} logins");
    // Thirty were opened before the first reload, and thirty are there, at the backends where they began.
    let open = open.finish();
    assert_eq!(open.len(), 30);
    testkit::wait::until("nobody else is on", || one.iter().map(FakeBackend::concurrent).sum::<usize>() == 30);
    assert!(two.iter().all(|backend| backend.connections() > RELOADS), "the new routes were used");
    open.into_iter().for_each(|client| client.logout());
    let journal = gatepost.stop();
    let turned_away = |line: &&String| line.contains(" refused ") || line.contains(" overload ");
    let refused: Vec<_> = journal.iter().filter(turned_away).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert_eq!(journal.iter().filter(|line| line.contains(" reloaded ")).count(), RELOADS);
    println!("{served} logins beside 30 sessions through {RELOADS} reloads");
}

/// Each way there is shows this certificate and leads to these backends.
#[track_caller]
fn sees(ways: &[Way], certificate: &[u8], at: &[&FakeBackend], user: &str) {
    for (number, way) in ways.iter().enumerate() {
        let user = format!("{user}-{number}");
        let client = way.signed_in(&user);
        if way.tls.is_some() {
            assert!(client.peer_certificate().is_some_and(|shown| shown == certificate), "{user} saw another certificate");
        }
        client.logout();
        let backend = at.iter().find(|backend| backend.protocol() == way.protocol).expect("a backend of its protocol");
        testkit::wait::until("the login came to the new backend", || backend.logins().iter().any(|login| login.user == user));
    }
}

fn reload(gatepost: &Gatepost) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    let out = command.args(["reload", "--config"]).arg(gatepost.dir().join("gatepost.toml")).output().unwrap();
    (out.status.code(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}
