//! What the person at the terminal of `gatepost demo` needs to know: who is where, and lines to paste.

use super::lmtp;
use super::scene::{ALICE, BOB, DAVE, Doors, ERIN, NAME, Person, Scene};
use super::screen::{Screen, Tone};
use super::speech::title;
use std::net::SocketAddr;
use std::path::Path;

/// Files that commands to paste need, as words of a shell.
pub struct Files {
    /// The certificate to trust.
    pub ca: String,
    /// A script to upload.
    pub script: String,
    /// A letter to send.
    pub letter: String,
}

/// All of it.
pub fn text(scene: &Scene, screen: Screen) -> String {
    let heading = |text| screen.paint(Tone::Heading, text);
    let files = Files { ca: shell_word(&scene.ca), script: shell_word(&scene.script), letter: shell_word(&scene.letter) };
    let (ca, config, users) = (&files.ca, shell_word(&scene.config), shell_word(&scene.users));
    let who = |person: &Person| format!("{:<16} {:<11} {:<7}", person.user, person.password, person.mailbox);
    let each = |lines: &dyn Fn(&Doors) -> String, between: &str| scene.doors.iter().map(lines).collect::<Vec<_>>().join(between);
    format!(
        "
{}

{}

  user             password    mailbox
  {} on east, which checks the password
  {} on west; Gatepost checks the password and a master user signs in
  {} on north, which is down: Gatepost says \"try later\"
  {} on west, for sending only: it takes Gatepost's word for who she is, and hears no password

  {config}   the configuration, as you would write it
  {users}        the user database
  {ca}          signed the certificates

{}

{}

{}

{}

{}
",
        heading("Gatepost and two mail servers behind it, on loopback. Ctrl-C ends it and leaves nothing behind."),
        [each(&places, "\n"), lmtp::places(&scene.lmtp)].join("\n"),
        who(&ALICE),
        who(&BOB),
        who(&DAVE),
        who(&ERIN),
        heading("Try, in another terminal:"),
        [each(&|doors| doors.speech.paste(doors, &files).join("\n"), "\n"), lmtp::paste(&scene.lmtp, &files)].join("\n"),
        heading("Or by hand:"),
        each(&|doors| openssl(doors, &files), "\n\n"),
        heading("What happens:"),
    )
}

fn places(Doors { speech, clear, implicit, behind, east, west }: &Doors) -> String {
    let (name, starttls) = (title(speech.name()), speech.starttls());
    let secure = speech.implicit().map_or_else(|| name.clone(), title);
    let line = |who: &str, what: &str, at: String| format!("  {who:<10} {what:<35} {at}");
    let gatepost = [
        implicit.map(|at| (secure.clone(), at)),
        Some((format!("{name}, with {starttls}"), *clear)),
        Some((format!("{secure}, behind a PROXY header"), *behind)),
    ];
    let mut lines: Vec<String> = Vec::new();
    for (what, at) in gatepost.into_iter().flatten() {
        lines.push(line(if lines.is_empty() { "Gatepost" } else { "" }, &what, at.to_string()));
    }
    lines.push(line("east", &name, east.to_string()));
    lines.push(line("west", &name, format!("{west}, lets nobody in without {starttls}")));
    lines.join("\n")
}

/// curl, at each door of a protocol. `schemes`: with STARTTLS, and with TLS from the first byte; `more`: options for a person.
pub fn curl(doors: &Doors, files: &Files, schemes: [&str; 2], path: &str, more: impl Fn(&Person) -> String) -> Vec<String> {
    let [clear, secure] = schemes;
    let line = |who: &Person, options: &str, scheme: &str, at: SocketAddr| {
        let (user, password, port, more) = (who.user, who.password, at.port(), more(who));
        let more = if more.is_empty() { more } else { format!("  {more} \\\n") };
        format!("curl -sS --cacert {} -u {user}:{password} \\\n{more}  {options}'{scheme}://{NAME}:{port}/{path}'", files.ca)
    };
    let implicit = doors.implicit.map(|at| line(&ALICE, "", secure, at));
    let others = [line(&BOB, "--ssl-reqd ", clear, doors.clear), line(&ALICE, "--haproxy-protocol ", secure, doors.behind)];
    implicit.into_iter().chain(others).collect()
}

fn openssl(doors: &Doors, Files { ca, .. }: &Files) -> String {
    let Doors { speech, clear, implicit, .. } = doors;
    let command = format!("openssl s_client -quiet -crlf -verify_return_error -servername {NAME}");
    let secure = implicit.map(|at| format!("{command} \\\n  -CAfile {ca} -connect {at}\n")).unwrap_or_default();
    format!(
        "{}: {}\n\n{secure}{command} -starttls {} \\\n  -CAfile {ca} -connect {clear}",
        title(speech.name()),
        speech.by_hand(&ALICE),
        speech.openssl(),
    )
}

/// A path as it can be pasted into a shell.
fn shell_word(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ',' | '@');
    if path.chars().all(plain) { path.into_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
