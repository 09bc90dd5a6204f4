//! Criterion's results as one HTML page: no scripts, no fonts, nothing from any network.

use super::bars::{bars, ratio};
use super::criterion::Group;
use super::{duration, escape};
use core::fmt::Write;
use roko_tuning::Fingerprint;
use std::time::SystemTime;

const STYLE: &str = "body{font:15px sans-serif;color:#222;max-width:900px;margin:2em auto;padding:0 1em}\
    h1{font-size:1.5em}h2{font-size:1.1em;margin:2em 0 .3em}pre{background:#f4f4f4;padding:.7em;white-space:pre-wrap}\
    table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}\
    td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}svg text{font:12px sans-serif}";

/// What stands above the results.
pub struct Head<'a> {
    /// The page's title.
    pub title: &'a str,
    /// What else there is to say; empty for nothing.
    pub note: &'a str,
    /// The machine that makes the page.
    pub machine: &'a Fingerprint,
    /// The port that frames moved through, as whoever measured says.
    pub port: &'a str,
    /// Now.
    pub now: SystemTime,
}

/// The page.
///
/// # Errors
/// When the title, the note or a bench says that cores were isolated and the kernel isolates none.
pub fn page(head: &Head<'_>, groups: &[Group]) -> Result<String, String> {
    let names = groups.iter().flat_map(|group| {
        core::iter::once(group.name.as_str()).chain(group.cases.iter().map(|case| case.name.as_str()))
    });
    [head.title, head.note, head.port]
        .into_iter()
        .chain(names)
        .try_for_each(|claim| head.machine.allows(claim))?;
    let newest = groups.iter().flat_map(|group| &group.cases).map(|case| case.measured).max();
    let age = newest.and_then(|newest| head.now.duration_since(newest).ok()).unwrap_or_default();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>\n\
         <h1>{title}</h1>\n",
        title = escape(head.title)
    );
    if !head.note.is_empty() {
        let _ = writeln!(html, "<p>{}</p>", escape(head.note));
    }
    let _ = writeln!(
        html,
        "<pre>{}\nport: {}; clock: CLOCK_MONOTONIC, by criterion</pre>\n\
         <p>The machine is the one that made this page; the newest result was {} old then. Each bar is a median an item, with \
         its confidence interval as a line. The first case of an operation is this project's, the others are peers and \
         floors: <b>first / this</b> below 1 means that the first one is faster. Cases were measured one after the other, so \
         on a shared machine the ratios that <code>cargo bench</code> prints from its turns are the better ones.</p>",
        escape(&head.machine.to_string()),
        escape(head.port),
        days(age.as_secs())
    );
    summary(&mut html, groups);
    for group in groups {
        let _ = writeln!(html, "<h2>{}</h2>\n{}", escape(&group.name), bars(group));
    }
    html.push_str("</body></html>\n");
    Ok(html)
}

/// A row an operation: the own time, and the fastest peer's with the ratio.
fn summary(html: &mut String, groups: &[Group]) {
    html.push_str("<table><tr><th>operation</th><th>first case</th><th>an item</th><th>fastest beside it</th><th>first / that</th></tr>\n");
    for group in groups {
        let Some((own, peers)) = group.cases.split_first() else { continue };
        let fastest = peers.iter().min_by(|a, b| a.item_ns().total_cmp(&b.item_ns()));
        let (peer, ratio) = match fastest {
            Some(peer) => (escape(&peer.name), ratio(own, peer)),
            None => ("none".to_owned(), String::new()),
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{peer}</td><td>{ratio}</td></tr>",
            escape(&group.name),
            escape(&own.name),
            duration(own.item_ns())
        );
    }
    html.push_str("</table>\n");
}

fn days(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::criterion::{read, tests::write};
    use roko_tuning::Tree;
    use std::time::Duration;

    #[test]
    fn a_page_has_every_operation_its_ratios_and_nothing_from_a_network() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "hop/size=64", "ours", 10, 1_000.0, 1);
        write(folder.path(), "hop/size=64", "their<s", 10, 4_000.0, 2);
        write(folder.path(), "commit", "alone", 1, 5.0, 3);
        let groups = read(folder.path()).expect("results");
        // A machine of which nothing is told isolates nothing.
        let machine = Fingerprint::of(&Tree::at(folder.path()), 2);
        let head = |title| Head {
            title,
            note: "",
            machine: &machine,
            port: "none",
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_003 + 3 * 86_400),
        };
        let html = page(&head("benches"), &groups).expect("no claim");
        for part in
            ["hop/size=64", "their&lt;s", "0.25 [0.18 .. 0.35]", "3 days old", "100 ns", "no isolcpus"]
        {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert_eq!(html.matches("<rect").count(), 3);
        for fetched in ["<script", "<link", "src=", "url(", "http:", "https:"] {
            assert!(!html.contains(fetched), "{fetched}");
        }
        let refused = page(&head("benches on isolated cores"), &groups).expect_err("a claim");
        assert!(refused.contains("isolcpus"), "{refused}");
    }
}
