//! Writes a profile as a file, with the comments of a built-in one.

use crate::builtin;
use crate::profile::{Profile, StageThreads};
use crate::stage::Stage;
use core::fmt::Write;
use std::collections::BTreeMap;

/// The comment above each key of a built-in profile, by table and key. Those of threads are under `threads`.
fn comments(text: &'static str) -> BTreeMap<(&'static str, &'static str), String> {
    let mut comments = BTreeMap::new();
    let (mut table, mut comment) = ("", String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').split('.').next().unwrap_or_default();
            comment.clear();
        } else if line.is_empty() {
            comment.clear();
        } else if line.starts_with("# ") {
            let _ = writeln!(comment, "{line}");
        } else if let Some((key, _)) = line.trim_start_matches('#').split_once(" = ") {
            // The first thread's comment is whole; the others refer to it.
            comments.entry((table, key)).or_insert_with(|| comment.clone());
        }
    }
    comments
}

struct Writer {
    out: String,
    comments: BTreeMap<(&'static str, &'static str), String>,
}

impl Writer {
    fn table(&mut self, name: &str) {
        let _ = writeln!(self.out, "[{name}]");
    }

    fn comment(&mut self, table: &str, key: &str) {
        let found = self.comments.iter().find(|((t, k), _)| *t == table && *k == key);
        self.out.push_str(found.map_or("", |(_, comment)| comment));
    }

    fn key(&mut self, table: &str, key: &str, value: impl core::fmt::Display) {
        self.comment(table, key);
        let _ = writeln!(self.out, "{key} = {value}\n");
    }

    /// A key that may be left out; then an example of it stands there as a comment.
    fn optional(&mut self, table: &str, key: &str, value: Option<String>, example: &str) {
        self.comment(table, key);
        let _ = match value {
            Some(value) => writeln!(self.out, "{key} = {value}\n"),
            None => writeln!(self.out, "#{key} = {example}\n"),
        };
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn toml(profile: &Profile, notes: &[String], base: &str) -> String {
    let comments = comments(builtin(base).unwrap_or_default());
    let mut w = Writer { out: String::new(), comments };
    notes.iter().for_each(|note| _ = writeln!(w.out, "# {note}"));
    w.out.push('\n');
    w.key("", "name", quoted(&profile.name));
    w.key("", "burst_packets", profile.burst_packets);
    w.key("", "housekeeping_interval_us", profile.housekeeping_interval_us);
    w.table("idle");
    w.key("idle", "strategy", quoted(profile.idle.strategy.name()));
    w.key("idle", "spin_iterations", profile.idle.spin_iterations);
    w.key("idle", "sleep_us_max", profile.idle.sleep_us_max);
    w.table("lanes");
    w.key("lanes", "count", profile.lanes.count);
    w.table("stages");
    w.comment("stages", Stage::Rx.name());
    for (stage, on) in &profile.stages {
        let names: Vec<String> = on.names().iter().map(|name| quoted(name)).collect();
        let _ = match on {
            StageThreads::One(_) => writeln!(w.out, "{stage} = {}", names.concat()),
            StageThreads::EachLane(_) => writeln!(w.out, "{stage} = [{}]", names.join(", ")),
        };
    }
    w.out.push('\n');
    threads(&mut w, profile);
    w.table("rings");
    for (ring, depth) in &profile.rings {
        w.key("rings", ring, depth);
    }
    let others = [("control", profile.control), ("bls", profile.bls), ("storage", profile.storage)];
    for (table, placement) in others {
        w.table(table);
        w.optional(table, "core", placement.core.map(|core| core.to_string()), "0");
    }
    w.table("host");
    w.key("host", "hugepages_2mib", profile.host.hugepages_2mib);
    w.optional("host", "numa_node", profile.host.numa_node.map(|node| node.to_string()), "0");
    w.optional("host", "nic_driver", profile.host.nic_driver.as_deref().map(quoted), "\"ice\"");
    w.out.truncate(w.out.trim_end().len());
    w.out.push('\n');
    w.out
}

/// The threads' tables, in packet order; all but the first refer to its comment.
fn threads(w: &mut Writer, profile: &Profile) {
    let mut first: Option<&str> = None;
    let mut names: Vec<&String> = profile.threads.keys().collect();
    names.sort_by_key(|name| profile.stages_of(name).next());
    for name in names {
        w.table(&format!("threads.{name}"));
        let core = profile.threads[name].core.map(|core| core.to_string());
        match first {
            None => w.optional("threads", "core", core, "1"),
            Some(first) => {
                let _ = writeln!(w.out, "# Unit, default and symptom as in [threads.{first}].");
                let line = core.map_or_else(|| "#core = 1".to_owned(), |core| format!("core = {core}"));
                let _ = writeln!(w.out, "{line}\n");
            }
        }
        first.get_or_insert(name);
    }
}
