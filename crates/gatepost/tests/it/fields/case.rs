//! The words of the table: what a row says, how the client signs in, and what is to come of it.
//!
//! Texts may hold places that are filled in when a case runs: `{me}` (the user, one per case and protocol), `{port}` (the
//! case's backend), `{other}` (a second one), `{gate}` (the port that the client reached), `{clear}` and `{tls}` (the
//! protocol's registered ports) and `{now+N}` (Unix time).

use super::spelling::Way;
use testkit::Protocol;

/// One case. It runs for every protocol, or for those that it names.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub protocols: Vec<Protocol>,
    /// The row of the second and last database, over [`BASE`]; [`NULL`] takes a field out.
    pub row: Vec<(&'static str, &'static str)>,
    /// The row of the first database, where there is one.
    pub first: Vec<(&'static str, &'static str)>,
    /// What changes in the row while the login is held.
    pub meanwhile: Vec<(&'static str, &'static str)>,
    pub setup: Setup,
    pub peer: Peer,
    /// How the client signs in.
    pub way: Way,
    pub password: &'static str,
    /// A trusted front says who is calling, and forwards these pairs.
    pub front: Option<Vec<(&'static str, &'static str)>>,
    pub end: End,
    /// What the journal's line on the login holds.
    pub journal: Vec<&'static str>,
    /// Fields that the journal says have no effect.
    pub warned: Vec<&'static str>,
}

/// SQL's NULL.
pub const NULL: &str = "\0";

/// The password of everybody.
pub const PASSWORD: &str = "top-secret";

/// What every row says.
pub const BASE: [(&str, &str); 4] =
    [("proxy", "y"), ("host", "127.0.0.1"), ("port", "{port}"), ("password", "{PLAIN}top-secret")];

/// Which Gatepost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Without a local backend.
    Usual,
    /// With `backend.local`.
    Local,
    /// With `backend.proxy_protocol = "v2"`.
    Header,
    /// A failed login is answered after 30 s.
    Slow,
    /// With `backend.submission_login = "xclient"`.
    Vouching,
}

impl Setup {
    pub const ALL: [Setup; 5] = [Setup::Usual, Setup::Local, Setup::Header, Setup::Slow, Setup::Vouching];
}

/// What the row's backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// In clear.
    Clear,
    /// The same at ::1.
    Ipv6,
    /// Offers TLS.
    StartTls(Cert),
    /// TLS from the first byte.
    Implicit(Cert),
    /// Says nothing.
    Silent,
    /// Takes every password for a wrong one.
    Refusing,
    /// Looks after each line whether more comes before it has answered.
    LineByLine,
    /// May not be told who has signed in.
    TakesNoLogin,
    /// Lists no SASL PLAIN.
    ListsNoPlain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cert {
    /// For 127.0.0.1 and localhost.
    Good,
    /// For another name.
    Other,
}

/// What is to come of the login.
#[derive(Clone, Debug)]
pub enum End {
    In(Heard),
    Refused(Refused, Met),
}

/// What the client hears; places may stand in the texts.
#[derive(Clone, Copy, Debug)]
pub enum Refused {
    WrongPassword,
    Unavailable,
    Looping,
    Disabled(&'static str),
    Refer { user: &'static str, host: &'static str, port: &'static str, text: &'static str },
}

/// What the row's backend has seen of a login that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Nobody connected.
    Nobody,
    /// Somebody connected, and said nothing (but a refusal of its certificate).
    Mute,
    /// Somebody asked for TLS, and refused its certificate.
    StartTls,
    /// Somebody asked what it can do, and left.
    Greeted,
    /// Somebody learnt that there is no way to sign in, and said no name and no password.
    NoWay,
    /// The user signed in, once.
    SignIn,
}

/// What a backend hears.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Place,
    pub starttls: bool,
    /// It is told who is calling.
    pub told: bool,
    /// `forward_` pairs of the row.
    pub forward: Vec<(&'static str, &'static str)>,
    pub way: Way,
    pub authzid: &'static str,
    pub user: &'static str,
    pub password: &'static str,
    /// Whence.
    pub from: &'static str,
    /// Commands do not wait for each other. Only [`Peer::LineByLine`] knows.
    pub together: bool,
    /// How long the way to the backend may take, in seconds.
    pub deadline: u64,
}

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The row's.
    Row,
    /// The one of `{other}`.
    Other,
    /// `backend.local`.
    Local,
}

/// A row whose user gets in at its backend.
pub fn case(name: &'static str, row: &[(&'static str, &'static str)]) -> Case {
    Case {
        name,
        protocols: Protocol::ALL.to_vec(),
        row: row.to_vec(),
        first: Vec::new(),
        meanwhile: Vec::new(),
        setup: Setup::Usual,
        peer: Peer::Clear,
        way: Way::Command,
        password: PASSWORD,
        front: None,
        end: End::In(Heard {
            at: Place::Row,
            starttls: false,
            told: true,
            forward: Vec::new(),
            way: Way::Command,
            authzid: "",
            user: "{me}",
            password: PASSWORD,
            from: "127.0.0.1",
            together: true,
            deadline: 30,
        }),
        journal: Vec::new(),
        warned: Vec::new(),
    }
}

impl Case {
    /// In these protocols only.
    pub fn by(mut self, protocols: &[Protocol]) -> Case {
        self.protocols = protocols.to_vec();
        self
    }

    pub fn first(mut self, row: &[(&'static str, &'static str)]) -> Case {
        self.first = row.to_vec();
        self
    }

    pub fn meanwhile(mut self, row: &[(&'static str, &'static str)]) -> Case {
        self.meanwhile = row.to_vec();
        self
    }

    pub fn setup(mut self, setup: Setup) -> Case {
        self.setup = setup;
        self
    }

    pub fn peer(mut self, peer: Peer) -> Case {
        self.peer = peer;
        self
    }

    pub fn way(mut self, way: Way) -> Case {
        self.way = way;
        self
    }

    pub fn password(mut self, password: &'static str) -> Case {
        self.password = password;
        self
    }

    pub fn front(mut self, forward: &[(&'static str, &'static str)]) -> Case {
        self.front = Some(forward.to_vec());
        self
    }

    pub fn journal(mut self, pieces: &[&'static str]) -> Case {
        self.journal = pieces.to_vec();
        self
    }

    pub fn warned(mut self, fields: &[&'static str]) -> Case {
        self.warned = fields.to_vec();
        self
    }

    /// What the backend hears, where it is not the usual.
    pub fn hears(mut self, change: impl FnOnce(&mut Heard)) -> Case {
        if let End::In(heard) = &mut self.end {
            change(heard);
        }
        self
    }

    /// At the local backend.
    pub fn local(self) -> Case {
        self.setup(Setup::Local).hears(|heard| heard.at = Place::Local)
    }

    pub fn refused(mut self, refused: Refused, met: Met, journal: &[&'static str]) -> Case {
        self.end = End::Refused(refused, met);
        self.journal(journal)
    }

    /// Nobody connected, the client is to try later, and the journal names this field of the row.
    pub fn bad(self, field: &'static str) -> Case {
        self.refused(Refused::Unavailable, Met::Nobody, &["reason=row", field])
    }

    pub fn wrong_password(self) -> Case {
        self.refused(Refused::WrongPassword, Met::Nobody, &["reason=credentials"])
    }

    /// Columns of both databases, as they are named there.
    pub fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.row.iter().chain(&self.first).chain(&self.meanwhile).map(|(name, _)| *name)
    }
}
