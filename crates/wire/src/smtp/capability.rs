//! What servers say in answer to EHLO, as words apart by blanks, which is how capabilities are kept, learnt and configured.
//!
//! A line of the answer has a keyword and may have parameters. A parameter stands behind its keyword and `=`: `SIZE 10240000` is
//! `SIZE=10240000`, and `AUTH PLAIN LOGIN` is `AUTH=PLAIN AUTH=LOGIN`. `words` makes such words of an answer, and `lines`
//! makes lines of words; [`tellable`] chooses those that a client may be told before it has signed in.
//!
//! RFC 5321 section 4.1.1.1.

/// The longest line of an answer, in octets, without what stands in front of the keyword and without CRLF (RFC 5321 4.5.3.1.5).
const LINE_MAX: usize = 500;

/// What the front says by itself, and what concerns the connection between a backend and us: how to sign in, who is calling, TLS
/// on the rest of the way, and Exim's leave to speak before the greeting.
const NOT_TOLD: [&str; 6] = ["STARTTLS", "AUTH", "PIPELINING", "ENHANCEDSTATUSCODES", "REQUIRETLS", "PIPECONNECT"];

/// The words of a backend's list that stay true when we pass them on: everything about the time after login. Private words
/// (`XCLIENT`, `X-EXPS`, ...) are for those who know each other, as the backend and we do.
pub fn tellable(list: &str) -> String {
    let told = |word: &&str| {
        let keyword = keyword(word);
        let private = keyword.get(..1).is_some_and(|first| first.eq_ignore_ascii_case("X"));
        !private && !NOT_TOLD.iter().any(|not| not.eq_ignore_ascii_case(keyword))
    };
    list.split_ascii_whitespace().filter(told).collect::<Vec<_>>().join(" ")
}

/// The words of an answer to EHLO, without its first line; what is not in the grammar is passed over.
pub(super) fn words<'a>(lines: impl Iterator<Item = &'a [u8]>) -> String {
    let mut words: Vec<String> = Vec::new();
    for line in lines.filter_map(|line| std::str::from_utf8(line).ok()) {
        let mut told = line.split_ascii_whitespace();
        let Some(first) = told.next() else { continue };
        // `AUTH=PLAIN LOGIN`, as it was before there was a standard, and still is said for the clients of that time.
        let (keyword, glued) = match first.split_once('=') {
            Some((keyword, parameter)) if keyword.eq_ignore_ascii_case("AUTH") => (keyword, Some(parameter)),
            _ => (first, None),
        };
        if !is_keyword(keyword) {
            continue;
        }
        let mut parameters = glued.into_iter().chain(told).filter(|parameter| is_parameter(parameter)).peekable();
        if parameters.peek().is_none() {
            words.push(keyword.to_owned());
        }
        words.extend(parameters.map(|parameter| format!("{keyword}={parameter}")));
    }
    words.join(" ")
}

/// The lines that say these words: each keyword once, where it comes first, with its parameters, each once; what is not in the
/// grammar, or goes beyond the length of a line, is left out.
pub(super) fn lines(words: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_ascii_whitespace() {
        let (keyword, parameter) = word.split_once('=').map_or((word, None), |(keyword, parameter)| (keyword, Some(parameter)));
        if !is_keyword(keyword) || parameter.is_some_and(|parameter| !is_parameter(parameter)) || word.len() > LINE_MAX {
            continue;
        }
        let known = lines.iter_mut().find(|line| line.split(' ').next().is_some_and(|first| first.eq_ignore_ascii_case(keyword)));
        match (known, parameter) {
            (None, None) => lines.push(keyword.to_owned()),
            (None, Some(parameter)) => lines.push(format!("{keyword} {parameter}")),
            (Some(line), Some(parameter)) => {
                let new = !line.split(' ').skip(1).any(|said| said.eq_ignore_ascii_case(parameter));
                if new && line.len().saturating_add(parameter.len()) < LINE_MAX {
                    line.push(' ');
                    line.push_str(parameter);
                }
            }
            (Some(_), None) => {}
        }
    }
    lines
}

/// The keyword of a word.
pub(super) fn keyword(word: &str) -> &str {
    word.split('=').next().unwrap_or_default()
}

fn is_keyword(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
}

fn is_parameter(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(answer: &str) -> String {
        words(answer.lines().map(str::as_bytes))
    }

    #[test]
    fn parameters_stand_behind_their_keyword() {
        let postfix =
            "PIPELINING\nSIZE 10240000\nVRFY\nETRN\nSTARTTLS\nAUTH PLAIN LOGIN\nAUTH=PLAIN LOGIN\nDSN\nXCLIENT NAME ADDR";
        let expected = "PIPELINING SIZE=10240000 VRFY ETRN STARTTLS AUTH=PLAIN AUTH=LOGIN AUTH=PLAIN AUTH=LOGIN DSN XCLIENT=NAME \
                        XCLIENT=ADDR";
        assert_eq!(told(postfix), expected);
        assert_eq!(
            told("AUTH=\nsize\n\nBURL imap imap://a.example\nLIMITS RCPTMAX=20\n8BITMIME "),
            "AUTH size BURL=imap BURL=imap://a.example LIMITS=RCPTMAX=20 8BITMIME"
        );
        assert_eq!(
            told("Hello there!\n-X\nSIZE=5\n\u{e4}\nA_B\nSIZE \u{e4} 5"),
            "Hello=there! SIZE=5",
            "one that only looks like it"
        );
    }

    #[test]
    fn words_become_lines() {
        for (words, expected) in [
            ("", &[][..]),
            ("SIZE=10240000 8BITMIME", &["SIZE 10240000", "8BITMIME"]),
            ("BURL=imap DSN burl=imap://a BURL=IMAP BURL dsn", &["BURL imap imap://a", "DSN"]),
            ("LIMITS=RCPTMAX=20", &["LIMITS RCPTMAX=20"]),
            ("SIZE SIZE=5", &["SIZE 5"]),
            ("=x -A SIZE= \u{e4} A_B 250-OK", &["250-OK"]),
        ] {
            assert_eq!(lines(words), expected, "{words}");
        }
        let many: String = (0..1000).map(|n| format!("BURL=imap://{n} ")).collect();
        assert!(lines(&many)[0].len() <= LINE_MAX && lines(&many).len() == 1);
        assert!(lines(&"X".repeat(LINE_MAX + 1)).is_empty());
    }

    #[test]
    fn how_to_sign_in_and_who_is_calling_are_not_passed_on() {
        let exchange = "SIZE=37748736 PIPELINING DSN ENHANCEDSTATUSCODES STARTTLS X-ANONYMOUSTLS AUTH=NTLM auth=LOGIN X-EXPS=GSSAPI \
                        8BITMIME BINARYMIME CHUNKING XRDST xclient=ADDR XFORWARD=NAME REQUIRETLS PIPECONNECT SMTPUTF8";
        assert_eq!(tellable(exchange), "SIZE=37748736 DSN 8BITMIME BINARYMIME CHUNKING SMTPUTF8");
        assert_eq!(tellable("  pipelining  BURL=imap BURL=imap://a "), "BURL=imap BURL=imap://a");
    }

    proptest! {
        #[test]
        fn what_was_told_is_told_again(answer in proptest::collection::vec("[A-Z][A-Z0-9-]{0,8}( [!-~]{1,10}){0,3}", 0..12)) {
            let once = lines(&words(answer.iter().map(String::as_bytes)));
            let again = lines(&words(once.iter().map(String::as_bytes)));
            prop_assert_eq!(once, again);
        }

        #[test]
        fn lines_are_lines(words in any::<String>()) {
            for line in lines(&words) {
                prop_assert!(line.len() <= LINE_MAX && line.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()), "{}", line);
            }
        }
    }
}
