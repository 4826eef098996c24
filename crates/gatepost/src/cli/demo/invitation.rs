//! What the person at the terminal of `gatepost demo` needs to know: who is where, and lines to paste.

use super::scene::{ALICE, BOB, DAVE, Doors, NAME, Person, Scene};
use super::screen::{Screen, Tone};
use super::speech::title;
use std::path::Path;

/// All of it.
pub fn text(scene: &Scene, screen: Screen) -> String {
    let heading = |text| screen.paint(Tone::Heading, text);
    let (ca, config, users) = (shell_word(&scene.ca), shell_word(&scene.config), shell_word(&scene.users));
    let who = |person: &Person| format!("{:<16} {:<11} {:<7}", person.user, person.password, person.mailbox);
    let each = |lines: fn(&Doors, &str) -> String, between: &str| {
        scene.doors.iter().map(|doors| lines(doors, &ca)).collect::<Vec<_>>().join(between)
    };
    format!(
        "
{}

{}

  user             password    mailbox
  {} on east, which checks the password
  {} on west; Gatepost checks the password and a master user signs in
  {} on north, which is down: Gatepost says \"try later\"

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
        each(places, "\n"),
        who(&ALICE),
        who(&BOB),
        who(&DAVE),
        heading("Try, in another terminal:"),
        each(curl, "\n"),
        heading("Or by hand:"),
        each(openssl, "\n\n"),
        heading("What happens:"),
    )
}

fn places(Doors { speech, clear, implicit, behind, east, west }: &Doors, _ca: &str) -> String {
    let (name, secure, starttls) = (title(speech.name()), title(speech.implicit()), speech.starttls());
    let line = |who: &str, what: &str, at: String| format!("  {who:<10} {what:<31} {at}");
    [
        line("Gatepost", &secure, implicit.to_string()),
        line("", &format!("{name}, with {starttls}"), clear.to_string()),
        line("", &format!("{secure}, behind a PROXY header"), behind.to_string()),
        line("east", &name, east.to_string()),
        line("west", &name, format!("{west}, lets nobody in without {starttls}")),
    ]
    .join("\n")
}

fn curl(Doors { speech, clear, implicit, behind, .. }: &Doors, ca: &str) -> String {
    let (name, secure, path) = (speech.name(), speech.implicit(), speech.letter_path());
    let line = |who: &Person, options: &str, scheme: &str, port: u16| {
        format!("curl -sS --cacert {ca} -u {}:{} \\\n  {options}'{scheme}://{NAME}:{port}{path}'", who.user, who.password)
    };
    [
        line(&ALICE, "", secure, implicit.port()),
        line(&BOB, "--ssl-reqd ", name, clear.port()),
        line(&ALICE, "--haproxy-protocol ", secure, behind.port()),
    ]
    .join("\n")
}

fn openssl(Doors { speech, clear, implicit, .. }: &Doors, ca: &str) -> String {
    let command = format!("openssl s_client -quiet -crlf -verify_return_error -servername {NAME}");
    format!(
        "{}: {}\n\n{command} \\\n  -CAfile {ca} -connect {implicit}\n{command} -starttls {} \\\n  -CAfile {ca} -connect {clear}",
        title(speech.name()),
        speech.by_hand(&ALICE),
        speech.name(),
    )
}

/// A path as it can be pasted into a shell.
fn shell_word(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ',' | '@');
    if path.chars().all(plain) { path.into_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
