//! `[[users]]`: the chain of user databases. Keys that every block has are read here; a driver's own keys are checked against its
//! row of the catalog, so a new driver needs no line here.

use super::protocol;
use crate::config::catalog::{DriverName, KeyKind};
use crate::config::kinds;
use crate::config::meant::{Own, OwnValue, Skip, Then, UsersBlock};
use crate::config::places::Spot;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section, enumerate};
use std::collections::BTreeMap;

/// `result_success`, `result_failure`, `result_internalfail`.
pub(in super::super) const THEN: &[(&str, Then)] = &[
    ("return-ok", Then::ReturnOk),
    ("return-fail", Then::ReturnFail),
    ("return", Then::Return),
    ("continue", Then::Continue),
    ("continue-ok", Then::ContinueOk),
    ("continue-fail", Then::ContinueFail),
];
/// `skip`.
pub(in super::super) const SKIP: &[(&str, Skip)] =
    &[("never", Skip::Never), ("authenticated", Skip::Authenticated), ("unauthenticated", Skip::Unauthenticated)];

/// The most `[[users]]`.
const MOST: usize = 1000;
/// The longest name, octets.
const LONGEST_NAME: usize = 64;

pub(super) fn read(r: &mut Reading<'_>, root: &mut Section) -> Vec<UsersBlock> {
    let written = root.has("users");
    let blocks = root.sections(r, "users", MOST);
    if blocks.as_ref().map_or(!written, Vec::is_empty) && !r.incomplete {
        r.error_fix(
            r.top(),
            "missing",
            "there is no [[users]]: nobody could sign in",
            "[[users]] driver = \"static\", fields = { proxy = \"y\", nopassword = \"y\", host = \"mail.example.net\" }",
        );
    }
    let mut all = Vec::new();
    let mut names = BTreeMap::new();
    for (index, block) in blocks.unwrap_or_default().into_iter().enumerate() {
        all.extend(read_block(r, block, index + 1, &mut names));
    }
    all
}

fn read_block(
    r: &mut Reading<'_>,
    mut block: Section,
    position: usize,
    names: &mut BTreeMap<String, Spot>,
) -> Option<UsersBlock> {
    let named = block.read(r, "name", name);
    let driver = read_driver(r, &mut block);
    let protocols = read_protocols(r, &mut block);
    let username_format = block.read(r, "username_format", kinds::line).map(|told| told.value);
    let default_fields = block.read_or(r, "default_fields", kinds::fields, Vec::new());
    let override_fields = block.read_or(r, "override_fields", kinds::fields, Vec::new());
    let result_success = block.read_or(r, "result_success", kinds::word(THEN), Then::ReturnOk);
    let result_failure = block.read_or(r, "result_failure", kinds::word(THEN), Then::Continue);
    let result_internalfail = block.read_or(r, "result_internalfail", kinds::word(THEN), Then::ReturnFail);
    let skip = block.read_or(r, "skip", kinds::word(SKIP), Skip::Never);
    let deny = block.read_or(r, "deny", kinds::boolean, false);

    let Some(driver) = driver else {
        // Which keys are right depends on the driver.
        block.drop_rest();
        return None;
    };
    let at = block.at;
    let name_at = named.as_ref().map_or(at, |told| told.at);
    let name = named.map_or_else(|| format!("{}-{position}", driver.name), |told| told.value);
    if let Some(&first) = names.get(&name) {
        let text = format!("{} is already the name of the [[users]] at {}", shown(&name), r.told_place(first));
        r.error_fix(name_at, "twice", text, "names tell databases apart in the log: give each its own");
    } else {
        names.insert(name.clone(), name_at);
    }
    let own = read_own(r, &mut block, driver);
    tell_other_drivers_keys(r, &mut block, driver);
    block.finish(r);
    Some(UsersBlock {
        name,
        driver: driver.name,
        protocols,
        username_format,
        default_fields,
        override_fields,
        result_success,
        result_failure,
        result_internalfail,
        skip,
        deny,
        own,
        at: r.told_place(at),
    })
}

fn read_driver(r: &mut Reading<'_>, block: &mut Section) -> Option<&'static DriverName> {
    let catalog = r.catalog;
    let written = block.has("driver");
    let told = block.read(r, "driver", kinds::line);
    // `connection` names a driver elsewhere.
    let connection = block.has("connection");
    block.later(r, &["connection"]);
    let names: Vec<&str> = catalog.drivers.iter().map(|row| row.name).collect();
    let Some(told) = told else {
        if !written && !connection {
            r.error_fix(block.at, "missing", "this [[users]] has no `driver`", format!("it takes {}", enumerate(&names)));
        }
        return None;
    };
    if let Some(row) = catalog.drivers.iter().find(|row| row.name == told.value) {
        return Some(row);
    }
    if catalog.later_drivers.contains(&told.value.as_str()) {
        r.later(told.at, &format!("the driver {}", shown(&told.value)));
    } else {
        kinds::unknown_word(r, told.at, "users.driver", &told.value, &names);
    }
    None
}

fn read_protocols(r: &mut Reading<'_>, block: &mut Section) -> Vec<String> {
    let Some(told) = block.read(r, "protocols", kinds::many(kinds::line)) else {
        return Vec::new();
    };
    let mut out: Vec<String> = Vec::new();
    if told.value.is_empty() {
        let text = "`users.protocols` is empty: this database would never be asked";
        r.error_fix(told.at, "value", text, "leave it out for all protocols");
    }
    for item in told.value {
        if let Some(base) = protocol::base(r, item.at, "users.protocols", &item.value)
            && !out.iter().any(|have| have == base)
        {
            out.push(base.to_owned());
        }
    }
    out
}

fn read_own(r: &mut Reading<'_>, block: &mut Section, driver: &'static DriverName) -> BTreeMap<String, OwnValue> {
    let mut own = BTreeMap::new();
    for spec in driver.keys {
        if spec.required && !block.has(spec.name) {
            let text = format!("the driver `{}` needs `{}`: {}", driver.name, spec.name, spec.doc);
            let fix = match spec.kind {
                KeyKind::Text | KeyKind::Path => format!("{} = \"...\"", spec.name),
                KeyKind::Fields => {
                    format!("{} = {{ proxy = \"y\", nopassword = \"y\", host = \"mail.example.net\" }}", spec.name)
                }
            };
            r.error_fix(block.at, "missing", text, fix);
        }
        let told = block.read(r, spec.name, |r, item| match spec.kind {
            KeyKind::Text => kinds::lines(r, item).map(Own::Text),
            KeyKind::Path => kinds::file(r, item).map(Own::Path),
            KeyKind::Fields => kinds::fields(r, item).map(Own::Fields),
        });
        if let Some(told) = told {
            let at = r.told_place(told.at);
            own.insert(spec.name.to_owned(), OwnValue { value: told.value, at });
        }
    }
    own
}

/// A key that another driver has: the driver may be the mistake.
fn tell_other_drivers_keys(r: &mut Reading<'_>, block: &mut Section, driver: &DriverName) {
    let catalog = r.catalog;
    let mut keys = Vec::new();
    for entry in block.left() {
        let owners: Vec<&str> = catalog
            .drivers
            .iter()
            .filter(|row| row.name != driver.name && row.keys.iter().any(|spec| spec.name == entry.key))
            .map(|row| row.name)
            .collect();
        if !owners.is_empty() {
            keys.push((entry.key.clone(), entry.at, enumerate(&owners)));
        }
    }
    for (key, at, owners) in keys {
        block.forget(&key);
        let text = format!("`{key}` is no key of the driver `{}`", driver.name);
        let own: Vec<&str> = driver.keys.iter().map(|spec| spec.name).collect();
        r.error_fix(at, "unknown", text, format!("it is a key of {owners}; `{}` has {}", driver.name, enumerate(&own)));
    }
}

fn name(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    let name = kinds::line(r, item)?;
    if name.len() <= LONGEST_NAME && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Some(name);
    }
    let text = format!(
        "`{}`: {} holds more than letters, digits, `-`, `_` and `.`, or is longer than {LONGEST_NAME}",
        item.name,
        shown(&name)
    );
    r.error(item.value.at, "value", text);
    None
}
