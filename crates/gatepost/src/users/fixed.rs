//! `driver = "static"`: the same fields for everybody.
//!
//! ```toml
//! [[users]]
//! driver = "static"
//! fields = { proxy = "y", host = "10.0.0.1", nopassword = "y" }
//! ```
//!
//! Every user exists. Values may hold variables (`host = "%d.mail.internal"`), which are expanded once. A `password` here is
//! everybody's password, in clear unless it says otherwise.

use super::template::Text;
use super::{
    Asked, BuildProblem, Built, Driver, Fields, Finding, KeyKind, KeySpec, Shared, Users, default_scheme, missing,
    password::Scheme,
};
use crate::config::meant::{Own, OwnValue, UsersBlock};

/// The row of the table.
pub(super) const DRIVER: Driver = Driver {
    name: "static",
    doc: "the same fields for every user",
    keys: &[
        KeySpec { name: "fields", kind: KeyKind::Fields, required: true, doc: "the fields; values may hold variables" },
        KeySpec {
            name: "default_pass_scheme",
            kind: KeyKind::Text,
            required: false,
            doc: "how a password without {SCHEME} is to be read; default PLAIN",
        },
    ],
    build,
};

struct Fixed {
    fields: Vec<(String, Text)>,
    scheme: Scheme,
}

fn build(block: &UsersBlock, _shared: &Shared) -> Built {
    let Some(OwnValue { value: Own::Fields(pairs), at }) = block.own.get("fields") else {
        return Err(vec![missing(block, "fields")]);
    };
    let mut problems = Vec::new();
    let mut fields = Vec::new();
    for (name, value) in pairs {
        match Text::parse(value) {
            Ok(text) => fields.push((name.clone(), text)),
            Err(error) => problems.push(BuildProblem::template(at, &format!("fields: {name}"), &error)),
        }
    }
    match default_scheme(block, Scheme::PLAIN) {
        Ok(scheme) if problems.is_empty() => Ok(Box::new(Fixed { fields, scheme })),
        Ok(_) => Err(problems),
        Err(problem) => {
            problems.push(problem);
            Err(problems)
        }
    }
}

impl Users for Fixed {
    fn find<'a>(&'a self, asked: &'a Asked<'a>) -> Finding<'a> {
        Box::pin(async move {
            let expand = |(name, text): &(String, Text)| Ok((name.clone(), text.expand_text(asked)?));
            let pairs = self.fields.iter().map(expand).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(Fields::new(pairs)))
        })
    }

    fn default_scheme(&self) -> Scheme {
        self.scheme
    }

    fn example(&self) -> Option<String> {
        let (_, text) = self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("password"))?;
        (!text.varies()).then(|| text.fixed())
    }
}
