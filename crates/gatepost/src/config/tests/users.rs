//! `[[users]]`, and secrets: what is written, and what must be said.

use super::*;

/// Databases instead of the usual one, from line 7 on.
#[track_caller]
fn users(blocks: &str, expected: &[&str]) {
    check(&format!("{TOP}{LISTEN}{blocks}\n"), expected);
}

#[test]
fn user_databases() {
    users("[[users]]", &["7:1: error[missing]: this [[users]] has no `driver`|`static`, `sqlite`, `passwd-file`"]);
    users(
        "[[users]]\ndriver = \"sqlite3\"\nanything = 1",
        &["8:10: error[value]: `users.driver` cannot be `sqlite3`|did you mean `sqlite`?"],
    );
    users("[[users]]\ndriver = \"mysql\"\nconnect = \"x\"", &["8:10: error[later]: the driver `mysql` is not in this version"]);
    users(
        "[[users]]\ndriver = \"sqlite\"",
        &[
            "7:1: error[missing]: the driver `sqlite` needs `path`: the database",
            "7:1: error[missing]: the driver `sqlite` needs `query`: the question",
        ],
    );
    users("[[users]]\ndriver = \"static\"", &["7:1: error[missing]: the driver `static` needs `fields`|fields = { proxy"]);
    users(
        "[[users]]\ndriver = \"sqlite\"\npath = \"none.db\"\nquery = \"\"",
        &["9:8: error[file]: `users.path`: cannot read |none.db: No such file", "10:9: error[value]: `users.query` is empty"],
    );
    users(
        "[[users]]\ndriver = \"static\"\nfields = {}\nquery = \"x\"",
        &["10:1: error[unknown]: `query` is no key of the driver `static`|it is a key of `sqlite`; `static` has `fields`"],
    );
    users(
        "[[users]]\ndriver = \"static\"\nfields = \"x\"",
        &["9:10: error[kind]: `users.fields` is text; it must be a table such as"],
    );
    users(
        "[[users]]\ndriver = \"static\"\nfields = { nopassword = true, proxy = false, host = [1], port = 143, a = \"\\n\", HOST = \"x\", Port = \"y\", \"\" = \"z\" }",
        &[
            "9:25: error[kind]: `users.fields.nopassword` is true; fields are texts|write \"y\"",
            "9:39: error[kind]: `users.fields.proxy` is false|leave it out",
            "9:53: error[kind]: `users.fields.host` is an array; fields are texts",
            "9:74: error[value]: `users.fields.a` is longer than",
            "9:92: error[twice]: `users.fields.Port` is set twice",
            "9:104: error[value]: `` is no name of a field",
        ],
    );
    users(
        "[[users]]\nname = \"a b\"\ndriver = \"static\"\nfields = {}\nresult_success = \"ok\"\nskip = \"always\"\ndeny = \"no\"\nprotocols = [\"imaps\", \"smtp\", \"x\", \"sieve\"]",
        &[
            "8:8: error[value]: `users.name`: `a b` holds more than",
            "11:18: error[value]: `users.result_success` cannot be `ok`|`return-ok`, `return-fail`",
            "12:8: error[value]: `users.skip` cannot be `always`",
            "13:8: error[kind]: `users.deny` is text|write users.deny = false",
            "14:14: error[value]: `users.protocols`: `imaps` is `imap` on another port|write \"imap\"",
            "14:23: error[later]: the protocol `smtp`",
            "14:31: error[value]: `users.protocols` cannot be `x`",
            "14:36: error[value]: `users.protocols` cannot be `sieve`|here it is `managesieve`",
        ],
    );
    users("[[users]]\ndriver = \"static\"\nfields = {}\nprotocols = []", &["10:13: error[value]: `users.protocols` is empty"]);
    users(
        "[[users]]\ndriver = \"static\"\nfields = {}\nresult_internalfail = \"return_fail\"",
        &["10:23: error[value]: |did you mean `return-fail`?"],
    );
    users("[[users]]\nconnection = \"ad\"\nfilter = \"x\"", &["8:1: error[later]: `users.connection` is not in this version"]);
}

#[test]
fn names_of_databases() {
    let named = |name: &str| format!("[[users]]\nname = \"{name}\"\ndriver = \"static\"\nfields = {{}}\n");
    users(
        &format!("{}{}", named("a"), named("a")),
        &["12:8: error[twice]: `a` is already the name of the [[users]] at |gatepost.toml:8:8"],
    );
    users(
        &format!("{}[[users]]\ndriver = \"static\"\nfields = {{}}", named("static-2")),
        &["11:1: error[twice]: `static-2` is already the name"],
    );
    users(&format!("{}{}", named("a"), named("b")), &[]);
}

#[test]
fn secrets() {
    users(
        "[[users]]\ndriver = \"static\"\nfields = { pass = \"x\" }\npassword = \"x\"",
        &["10:1: error[secret]: `password` would put a secret|in `fields`|`password_file`"],
    );
    users(
        "[[users]]\ndriver = \"sqlite\"\npath = \"users.db\"\nquery = \"x\"\npassword = \"x\"",
        &["11:1: error[secret]: |`password_file`"],
    );
    behind("[backend]\nclient_secret = \"x\"", &["12:1: error[secret]: `client_secret` would put a secret|`client_secret_file`"]);
    behind(
        "[tls]\ncertificates = [{ cert = \"tls/mail.pem\", key = \"tls/mail.key\", password = \"x\" }]",
        &["12:64: error[secret]"],
    );
}
