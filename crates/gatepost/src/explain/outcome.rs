//! What would come of it.

use crate::failure::{Failure, PRIVACY_REQUIRED};
use serde::Serialize;
use wire::envelope::Verdict as Answer;

/// What would come of it; keys without a value are left out.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// In a word.
    pub verdict: Verdict,
    /// In a line for people.
    pub text: String,
    /// The backend that would be called first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The route's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The user as the databases know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A recipient as it would be said to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rcpt: Option<String>,
    /// The name that the backend is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destuser: Option<String>,
    /// Who signs in for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Whose password the backend is given: `client` or `row`; none where the backend is told who the user is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<&'static str>,
    /// The journal's word for how the client signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<&'static str>,
    /// The database that gave the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// TLS with the backend: `none`, `starttls`, `implicit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<&'static str>,
    /// How the backend is told who is calling, where it offers to hear it: `told`, `not-told`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<&'static str>,
    /// The journal's word for why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// On whose side the trouble is, as the journal says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<&'static str>,
    /// What the journal would say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The lines that the client would hear.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client_hears: Vec<String>,
    /// It would count as a guess, and slow down later logins from there.
    pub guess: bool,
    /// How long the client waits before it is answered, in seconds: for guesses before, for `delay_until`, for this one.
    pub waits: f64,
}

/// What becomes of a login, or of a recipient's mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It would sign in at the backend, if that one likes it.
    SignsIn,
    /// The mail would be handed to the recipient's server, which decides then.
    Delivers,
    /// The recipient would be told to try later.
    Deferred,
    /// The recipient would be refused for good.
    Rejected,
    /// It would be refused.
    Refused,
    /// The connection would be closed before there is a login.
    #[default]
    Closed,
}

impl Outcome {
    /// The connection ends without a login.
    pub(super) fn closed(reason: &str, detail: impl Into<String>, last_words: &[u8]) -> Outcome {
        let detail = detail.into();
        Outcome {
            verdict: Verdict::Closed,
            text: format!("the connection would be closed ({reason}): {detail}"),
            reason: Some(reason.to_owned()),
            detail: Some(detail),
            client_hears: lines(last_words),
            ..Outcome::default()
        }
    }

    /// With these last words.
    pub(super) fn hears(&mut self, last_words: &[u8]) {
        self.client_hears = lines(last_words);
    }

    /// The login fails.
    pub(super) fn refused(failure: &Failure, client_hears: &[u8]) -> Outcome {
        let (reason, side) = (failure.kind.word(), failure.side.word());
        Outcome {
            verdict: Verdict::Refused,
            text: format!("would be refused, reason {reason}, side {side}: {}", failure.detail),
            reason: Some(reason.to_owned()),
            side: Some(side),
            detail: Some(failure.detail.clone()),
            client_hears: lines(client_hears),
            guess: failure.counts_as_guess() && !failure.quick,
            ..Outcome::default()
        }
    }

    /// A recipient gets no mail.
    pub(super) fn undelivered(failure: &Failure, for_good: bool, heard: &Answer) -> Outcome {
        let (reason, side) = (failure.kind.word(), failure.side.word());
        let (verdict, what) =
            if for_good { (Verdict::Rejected, "refused for good") } else { (Verdict::Deferred, "told to try later") };
        Outcome {
            verdict,
            text: format!("would be {what}, reason {reason}, side {side}: {}", failure.detail),
            reason: Some(reason.to_owned()),
            side: Some(side),
            detail: Some(failure.detail.clone()),
            client_hears: vec![heard.to_string()],
            ..Outcome::default()
        }
    }

    /// The front takes it for no recipient, and so no database is asked.
    pub(super) fn no_recipient(client_hears: &[u8]) -> Outcome {
        Outcome {
            verdict: Verdict::Rejected,
            text: "would be refused, reason bad-command: no such recipient, or sender, can be said here".to_owned(),
            reason: Some("bad-command".to_owned()),
            side: Some("client"),
            client_hears: lines(client_hears),
            ..Outcome::default()
        }
    }

    /// The front takes it for no login, and so nobody hears of one.
    pub(super) fn bad_command(client_hears: &[u8]) -> Outcome {
        Outcome {
            verdict: Verdict::Refused,
            text: "would be refused, reason bad-command: no login of this protocol has such a name or password".to_owned(),
            reason: Some("bad-command".to_owned()),
            side: Some("client"),
            client_hears: lines(client_hears),
            ..Outcome::default()
        }
    }

    /// A password, or a login, in clear where that may not be.
    pub(super) fn in_clear(client_hears: &[u8]) -> Outcome {
        Outcome {
            verdict: Verdict::Refused,
            text: format!(
                "would be refused, reason {PRIVACY_REQUIRED}: a login in clear is not allowed here (listen.cleartext_auth)"
            ),
            reason: Some(PRIVACY_REQUIRED.to_owned()),
            side: Some("client"),
            client_hears: lines(client_hears),
            ..Outcome::default()
        }
    }
}

fn lines(octets: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(octets).lines().map(str::to_owned).collect()
}
