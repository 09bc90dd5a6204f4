//! The example file: every key with its type, unit, range, default and documentation, from the table.

use super::reader::{Key, Presence, Section};
use super::table::SECTIONS;
use core::fmt::Write;

/// A file with every key explained, that parses as it is. `values` are TOML texts by dotted name, instead of the
/// example's or the default's.
#[must_use]
pub fn example(values: &[(&str, String)]) -> String {
    let mut out = String::from(
        "# Configuration of a ROKO node. A line that begins with # is a comment; keys with a default may be left out.\n\
         # Check this file with `roko config check`, then run it with `roko run --config`.\n",
    );
    for section in SECTIONS {
        write_section(section, values, &mut out);
    }
    out
}

fn write_section(section: &Section, values: &[(&str, String)], out: &mut String) {
    // An entry of a list is an example only.
    let comment = if section.list { "#" } else { "" };
    out.push('\n');
    section.doc.iter().for_each(|line| out.extend(["#", line, "\n"]));
    let (open, close) = if section.list { ("[[", "]]") } else { ("[", "]") };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{comment}{open}{}{close}", section.name);
    for key in section.keys {
        key.doc.iter().for_each(|line| out.extend(["#", line, "\n"]));
        let _ = writeln!(out, "# {}", facts(key));
        let name = format!("{}.{}", section.name, key.name);
        let given = values.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str());
        let _ = match (given, key.presence) {
            (Some(value), _) => writeln!(out, "{} = {value}", key.name),
            (None, Presence::Required(value) | Presence::Default(value) | Presence::Suggested(value)) => {
                writeln!(out, "{comment}{} = {value}", key.name)
            }
            (None, Presence::Optional(value)) => writeln!(out, "#{} = {value}", key.name),
        };
    }
}

/// Type, unit, range and default on one line.
fn facts(key: &Key) -> String {
    let mut facts = vec![match key.unit {
        "" => key.type_name.to_owned(),
        unit => format!("{}, {unit}", key.type_name),
    }];
    facts.extend(key.range.map(|(least, most)| format!("{least} to {most}")));
    facts.push(match key.presence {
        Presence::Required(_) => "required".to_owned(),
        Presence::Default(value) => format!("default {value}"),
        Presence::Optional(_) => "optional".to_owned(),
        Presence::Suggested(_) => "see above".to_owned(),
    });
    format!("({})", facts.join("; "))
}
