//! `roko top`: running nodes, live.

use super::{CliError, CliResult};
use crate::top::{Answer, Page, Source, TopError};
use clap::Args;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Where a node's metrics are when nothing else is said.
const METRICS_DEFAULT: &str = "127.0.0.1:9615";
/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(250);
/// Between the two answers that rates on a single page are the difference of.
const ONCE_SPAN: Duration = Duration::from_secs(1);

/// Arguments of `roko top`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  roko top                                  nodes on this machine: a devnet, or one that `roko run` started
  roko top --metrics 10.0.0.5:9615 --metrics 10.0.0.6:9615
  roko top --node validator-2               nobody else's rings, peers and views
  roko top --once | less                    one page that leaves nothing out, rates over one second
  roko top --json | jq '.[0].rings[] | select(.overruns > 0)'

What it shows:
  nodes    height on disk, view, rates; how far one that is behind has come; what keeps it from voting
  threads  how each poll thread's and stage's time went; near 100 % processing, move a stage away;
           \"!\" says that the next stage is the slow one
  rings    depth, capacity, and what was lost because one was full (\"-\" where nothing can be)
  peers    when each was heard last, how much it sends, how old its stamps are on arrival
  views    who voted what, which certificates there were, milliseconds after the view began here

It asks http://ADDRESS/status four times a second. That costs a node about a millisecond each time
and its poll threads nothing: they publish their figures whether somebody looks or not.
Ctrl-C ends it; the nodes go on.")]
pub struct TopArgs {
    /// Metrics address of a process with nodes, as it printed it; can be given several times.
    #[arg(long, value_name = "ADDRESS", default_value = METRICS_DEFAULT)]
    metrics: Vec<String>,
    /// Show this node only.
    #[arg(long, value_name = "NAME", conflicts_with = "json")]
    node: Option<String>,
    /// Print one whole page and end; so does an output that is no terminal.
    #[arg(long)]
    once: bool,
    /// Print what each process says, one line of JSON each, and end.
    #[arg(long, conflicts_with = "once")]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &TopArgs) -> CliResult {
    let sources: Result<Vec<Source>, TopError> =
        args.metrics.iter().map(|text| Source::resolve(text)).collect();
    let sources = sources.map_err(in_words)?;
    if args.json {
        for source in &sources {
            print(&format!("{}\n", source.raw().map_err(in_words)?))?;
        }
        return Ok(());
    }
    // A process that does not answer now is a mistake in the command; one that goes away later is news.
    let first: Result<Vec<Answer>, TopError> = sources.iter().map(Source::ask).collect();
    let first: Vec<Result<Answer, TopError>> = first.map_err(in_words)?.into_iter().map(Ok).collect();
    let once = args.once || !std::io::stdout().is_terminal();
    let mut page = Page::new(args.node.clone(), once);
    let text = page.draw(&first).map_err(in_words)?;
    if once {
        std::thread::sleep(ONCE_SPAN);
        let second: Vec<_> = sources.iter().map(Source::ask).collect();
        return print(&page.draw(&second).map_err(in_words)?);
    }
    print("\x1b[2J")?;
    show(&text)?;
    loop {
        std::thread::sleep(INTERVAL);
        let answers: Vec<_> = sources.iter().map(Source::ask).collect();
        show(&page.draw(&answers).map_err(in_words)?)?;
    }
}

fn in_words(error: TopError) -> CliError {
    CliError(error.to_string())
}

/// Writes to stdout; whoever closes it (`head`) has seen enough.
fn print(text: &str) -> CliResult {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::with("writing the page", error))
        }
        _ => Ok(()),
    }
}

/// Draws over the page before, without flicker: home, each line cleared to its end, then everything below.
fn show(page: &str) -> CliResult {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let rows = size.map_or(usize::MAX, |size| usize::from(size.ws_row));
    let columns = size.map_or(usize::MAX, |size| usize::from(size.ws_col));
    let fitted = fit(page, rows.max(2), columns.max(20));
    print(&format!("\x1b[H{}\x1b[J", fitted.replace('\n', "\x1b[K\r\n")))
}

/// What of a page fits a terminal: a line that is too long is cut, and the last line says how many are missing.
fn fit(page: &str, rows: usize, columns: usize) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let room = rows - 1;
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    let mut out = String::new();
    for line in &lines[..shown] {
        out.extend(line.chars().take(columns));
        out.push('\n');
    }
    if shown < lines.len() {
        let more = lines.len() - shown;
        let hint = format!("{more} more lines: a taller terminal, --node NAME, or --once shows them");
        out.extend(hint.chars().take(columns));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_to_the_terminal_and_says_so() {
        let page = "one\ntwo\nthree\nfour\n";
        assert_eq!(fit(page, 5, 80), page);
        let cut = fit(page, 4, 80);
        assert_eq!(cut.lines().count(), 3, "the last row stays free: {cut}");
        assert!(cut.starts_with("one\ntwo\n2 more lines"), "{cut}");
        assert_eq!(fit(page, 5, 3), "one\ntwo\nthr\nfou\n");
    }
}
