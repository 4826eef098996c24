use super::filter::substr;
use super::*;
use crate::users::{Fields, testing};
use proptest::prelude::*;
use wire::origin::ForwardField;
use wire::secret::Secret;

fn expand_for(user: &str, template: &str) -> String {
    let text = Text::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
    let mut origin = testing::origin();
    origin.real_client.0.set_port(9);
    origin.name = Some("mail.example.org".to_owned());
    origin.forward = vec![ForwardField { name: "zone".to_owned(), value: "eu".to_owned() }];
    let password = Secret::new(b"s3cret%u".to_vec());
    let mut question = testing::question("Said@Example.ORG", Some(&password), &origin);
    question.client_id = Some("(\"name\" \"x\")");
    let so_far = Fields::new(testing::pairs(&[("Forward_A", "one"), ("host", "10.0.0.1")]));
    text.expand_text(&Asked { question: &question, user, so_far: &so_far }).unwrap()
}

#[test]
fn variables_modifiers_filters() {
    for (template, wanted) in [
        ("", ""),
        ("plain text", "plain text"),
        ("%u %n %d", "Jo.Doe@Example.com Jo.Doe Example.com"),
        ("%{user}|%{username}|%{domain}", "Jo.Doe@Example.com|Jo.Doe|Example.com"),
        ("%s %m %c", "imap PLAIN secured"),
        ("%{service} %{protocol} %{mech} %{mechanism} %{secured}", "imap imap PLAIN PLAIN secured"),
        ("%r %l %a %b", "192.0.2.7 198.51.100.1 143 40001"),
        ("%{rip} %{lip} %{lport} %{rport}", "192.0.2.7 198.51.100.1 143 40001"),
        ("%{remote_ip} %{local_ip} %{local_port} %{remote_port}", "192.0.2.7 198.51.100.1 143 40001"),
        ("%{real_rip} %{real_lip} %{real_lport} %{real_rport}", "192.0.2.7 198.51.100.1 143 9"),
        ("%{real_remote_ip} %{real_local_ip} %{real_local_port} %{real_remote_port}", "192.0.2.7 198.51.100.1 143 9"),
        ("%{session} %{client_id} %{local_name}", "s3ss10n (\"name\" \"x\") mail.example.org"),
        ("%{orig_user} %{orig_username} %{orig_domain}", "Said@Example.ORG Said Example.ORG"),
        ("%{original_user}", "Said@Example.ORG"),
        ("[%{login_user}]", "[]"),
        ("%{passdb:host} %{passdb:forward_a} %{passdb:FORWARD_A}", "10.0.0.1 one one"),
        ("%{passdb:forward_zone} [%{passdb:zone}] %{passdb:nope:dflt}", "eu [] dflt"),
        ("%w %{password}", "s3cret%u s3cret%u"),
        ("%Lu %Uu %Ln %Ud", "jo.doe@example.com JO.DOE@EXAMPLE.COM jo.doe EXAMPLE.COM"),
        ("%L{user} %LRn", "jo.doe@example.com eod.oj"),
        ("%Xa", "8f"),
        ("%1n %2.3n %0.1d %-2.2n", "J .Do E oe"),
        ("%-3.2n %-99.2n", "Do Jo"),
        ("%40n|%0.40n|%40.2n", "Jo.Doe|Jo.Doe|"),
        ("%08a %02a", "00000143 143"),
        ("%-2.5Un", "OE"),
        ("%{user | username | lower}", "jo.doe"),
        ("%{user|domain|upper}", "EXAMPLE.COM"),
        ("%{ user | domain }", "Example.com"),
        ("%{user | substr(0,1) | lower}%{user | substr( -4 , 3 )}", "j.co"),
        ("%{user | substr(3)} %{user|substr(1,-12)}", "Doe@Example.com o.Doe"),
        ("%{username | substr(-99,-1)} %{username | substr(99)}.", "Jo.Do ."),
        ("%{local_port | hex} %{user | reverse}", "8f moc.elpmaxE@eoD.oJ"),
        ("%{login_user | default('no}ne')} %{user|default(\"x\")}", "no}ne Jo.Doe@Example.com"),
        ("100 % sure, 50%% too, 5%", "100 % sure, 50% too, 5%"),
        ("%%u%%{user}", "%u%{user}"),
    ] {
        assert_eq!(expand_for("Jo.Doe@Example.com", template), wanted, "{template}");
    }
    assert_eq!(expand_for("nodomain", "%n|%d|%{user|domain}"), "nodomain||");
    assert_eq!(expand_for("a@b@c", "%n|%d"), "a|b@c");
    assert_eq!(expand_for("ÄÖ@ẞ", "%1u %Lu %-1.1u"), "Ä äö@ß ẞ");
}

#[test]
fn what_came_out_is_never_looked_at_again() {
    for user in ["%u", "%{user}", "%u${run}%{user}", "%%", "%w", "%{password}", "%", "%{", "%n@%d"] {
        assert_eq!(expand_for(user, "%u"), user);
        assert_eq!(expand_for(user, "<%{user}>"), format!("<{user}>"));
    }
}

#[test]
fn what_does_not_exist_is_an_error_with_its_place() {
    for (template, wanted) in [
        ("ab %k", "column 4: unknown variable %k"),
        ("%é", "column 1: unknown variable %\\u{e9}"),
        ("%{nope}", "column 1: unknown variable %{nope}"),
        ("%{}", "column 1: unknown variable %{}"),
        ("%{passdb:}", "column 1: unknown variable %{passdb:}"),
        ("%{userdb:x}", "unknown variable"),
        ("%{if;%u;eq;x}", "unknown variable"),
        ("one\ntwo %{nope}", "line 2, column 5: unknown variable %{nope}"),
        ("ä %{nope}", "column 3: unknown"),
        ("%{user | rot13}", "column 10: unknown filter \"rot13\""),
        ("%{user | md5}", "unknown filter \"md5\""),
        ("%{user | substr(x)}", "column 10: wrong arguments of the filter substr"),
        ("%{user | substr(1,2,3)}", "wrong arguments of the filter substr"),
        ("%{user | substr(99999)}", "wrong arguments of the filter substr"),
        ("%{user | lower(1)}", "wrong arguments of the filter lower"),
        ("%{user | substr(1", "arguments do not end"),
        ("%{user | default('x)}", "arguments do not end"),
        ("%{user", "without }"),
        ("%{user | lower", "without }"),
        ("%{user || lower}", "unknown filter"),
        ("%Mu", "column 2: the modifier M is not in this version"),
        ("%2.26Mu", "column 6: the modifier M is not in this version"),
        ("%Nu", "the modifier N is not in this version"),
        ("%Eu", "the modifier E (escape) has no place here"),
        ("%Zu", "unknown modifier Z"),
        ("%L", "a variable's name is missing"),
        ("%5", "a variable's name is missing"),
        ("%99999u", "bad offset or width"),
        ("%-2u", "bad offset or width"),
        ("%1.u", "bad offset or width"),
        ("%1.-2u", "bad offset or width"),
        ("%99999999999999999999999u", "bad offset or width"),
        ("%Lw", "the password takes no modifier"),
        ("%1w", "the password takes no modifier"),
        ("%{password | lower}", "the password takes no modifier"),
        ("%.2u", "unknown variable %."),
    ] {
        let error = Text::parse(template).expect_err(template);
        assert!(error.to_string().contains(wanted), "{template}: {error}");
        assert!(!error.fix.is_empty(), "{template}");
    }
}

#[test]
fn a_password_that_is_no_text_makes_no_field() {
    let origin = testing::origin();
    let password = Secret::new(vec![0xff, 0xfe]);
    let question = testing::question("u", Some(&password), &origin);
    let so_far = Fields::default();
    let asked = Asked { question: &question, user: "u", so_far: &so_far };
    let text = Text::parse("<%w>").unwrap();
    assert_eq!(text.expand(&asked).expose(), &[b'<', 0xff, 0xfe, b'>']);
    assert_eq!(text.expand_text(&asked).unwrap_err().kind, Kind::Row);
}

proptest! {
    #[test]
    fn any_template_is_read_or_refused(template in "(%|%[LURTXMEa-z0-9.{}|-]{0,6}|[ -~\\n]|é|%\\{user *\\| *[a-z]{0,8}\\(?[0-9,'\"-]{0,5}\\)?\\}){0,12}", user in "\\PC{1,40}") {
        if let Ok(text) = Text::parse(&template) {
            let origin = testing::origin();
            let question = testing::question(&user, None, &origin);
            let so_far = Fields::default();
            let expanded = text.expand_text(&Asked { question: &question, user: &user, so_far: &so_far }).unwrap();
            if !text.varies() {
                prop_assert_eq!(expanded, text.fixed());
            }
        }
    }

    #[test]
    fn a_user_comes_out_as_he_is(user in "\\PC{1,255}") {
        prop_assert_eq!(expand_for(&user, "%u"), user);
    }

    #[test]
    fn parts_of_a_name_are_parts(user in "\\PC{0,30}", offset in -40_i64..40, length in proptest::option::of(-40_i64..40)) {
        let part = substr(&user, offset, length);
        prop_assert!(user.contains(&part));
    }
}
