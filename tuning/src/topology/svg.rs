//! The topology as a drawing: a box for each L3 cache, in it a cell for each core, in that a line for each hardware
//! thread and what runs on it.

use super::{Cpu, Topology, text};
use crate::placement::PlacedThread;
use crate::profile::Profile;
use core::fmt::Write;

/// Cells beside each other in a box.
const COLUMNS: usize = 4;
const CELL_WIDTH: usize = 250;
/// Letters that a line of a cell holds at 13 pixels.
const LETTERS: usize = 36;
const LINE: usize = 18;
const GAP: usize = 12;

impl Topology {
    /// The machine as an SVG document, with the threads of `profile` on their cores.
    #[must_use]
    pub fn to_svg(&self, profile: &Profile) -> String {
        let threads = profile.placed_threads();
        let width = COLUMNS * (CELL_WIDTH + GAP) + 3 * GAP;
        let mut body = String::new();
        let title = format!("{} on {} cores (by {})", profile.name, self.cores(), self.source);
        let mut y = label(&mut body, GAP, GAP, "title", &title);
        for cpus in text::groups(self) {
            y = draw_group(&mut body, self, &cpus, &threads, y + GAP);
        }
        let mut list = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                y = label(&mut body, GAP, y + GAP, "head", title);
                lines.iter().for_each(|line| y = label(&mut body, 2 * GAP, y, "", line));
            }
        };
        list("network devices", text::nics(self));
        list("threads on no core above", text::unplaced(self, profile));
        let height = y + GAP;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             <style>text{{font:13px sans-serif;fill:#222}}.title{{font-size:17px;font-weight:bold}}.head{{font-weight:bold}}\
             .group{{fill:#f4f4f0;stroke:#999}}.free{{fill:#fff;stroke:#aaa}}.poll{{fill:#ffe0b3;stroke:#b36b00}}\
             .other{{fill:#d6e8ff;stroke:#2b6cb0}}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }
}

/// Draws one box and returns where it ends.
fn draw_group(
    out: &mut String,
    topology: &Topology,
    cpus: &[Cpu],
    threads: &[PlacedThread],
    top: usize,
) -> usize {
    let cores = text::cores(cpus);
    let lines = |core: &Vec<Cpu>| core.iter().map(|cpu| 1 + users(threads, cpu.cpu).len()).sum::<usize>();
    let mut cells = String::new();
    let mut y = top + LINE + GAP;
    for row in cores.chunks(COLUMNS) {
        let height = row.iter().map(lines).max().unwrap_or(1) * LINE + GAP;
        for (column, core) in row.iter().enumerate() {
            let x = 2 * GAP + column * (CELL_WIDTH + GAP);
            draw_core(&mut cells, core, threads, (x, y), height);
        }
        y += height + GAP;
    }
    let width = COLUMNS * (CELL_WIDTH + GAP) + GAP;
    let height = y - top;
    let _ = writeln!(
        out,
        "<rect class=\"group\" x=\"{GAP}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>"
    );
    label(out, 2 * GAP, top + GAP / 2, "head", &text::group(topology, &cpus[0]));
    out.push_str(&cells);
    y
}

fn draw_core(out: &mut String, core: &[Cpu], threads: &[PlacedThread], at: (usize, usize), height: usize) {
    let (x, mut y) = at;
    let used: Vec<&PlacedThread> =
        threads.iter().filter(|thread| core.iter().any(|cpu| thread.core == Some(cpu.cpu))).collect();
    let class = match used.iter().any(|thread| thread.polls) {
        true => "poll",
        false if used.is_empty() => "free",
        false => "other",
    };
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{CELL_WIDTH}\" height=\"{height}\" rx=\"4\"/>"
    );
    for (index, cpu) in core.iter().enumerate() {
        let kind = if index == 0 { "core" } else { "SMT sibling" };
        y = label(out, x + GAP / 2, y, "head", &format!("{kind} {}", cpu.cpu));
        for user in users(threads, cpu.cpu) {
            y = label(out, x + GAP, y, "", &user);
        }
    }
}

/// What runs on a CPU, in lines that fit a cell.
fn users(threads: &[PlacedThread], cpu: u32) -> Vec<String> {
    let mut lines = Vec::new();
    for user in text::users(threads, cpu) {
        let mut line = String::new();
        for word in user.split(' ') {
            if !line.is_empty() && line.len() + 1 + word.len() > LETTERS {
                lines.push(core::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// Writes a line of text below `top` and returns where it ends.
fn label(out: &mut String, x: usize, top: usize, class: &str, text: &str) -> usize {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{}\">{text}</text>", top + 14);
    top + LINE
}
