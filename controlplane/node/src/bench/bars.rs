//! One operation as bars: a case a row, its median an item, and a whisker for the confidence interval.

use super::criterion::{Case, Group};
use super::{COLOURS, duration, escape};
use core::fmt::Write;

const WIDTH: f64 = 860.0;
const NAMES: f64 = 230.0;
const FIGURES: f64 = 250.0;
const ROW: f64 = 26.0;

/// The ratio of the first case's time to another's, in words: below 1 the first one is faster.
#[must_use]
pub fn ratio(own: &Case, peer: &Case) -> String {
    let (low, middle, high) = own.ratio_to(peer);
    format!("{middle:.2} [{low:.2} .. {high:.2}]")
}

/// The group as an SVG drawing, to stand inside an HTML page. The scale begins at 0, so lengths compare as times do.
#[must_use]
pub fn bars(group: &Group) -> String {
    let most = group.cases.iter().map(|case| case.interval_ns.1 / case.items as f64).fold(1e-9, f64::max);
    let height = ROW * group.cases.len() as f64 + 8.0;
    let width = |nanos: f64| (WIDTH - NAMES - FIGURES) * nanos / most;
    let mut svg = format!(
        "<svg width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n"
    );
    for (row, case) in group.cases.iter().enumerate() {
        let y = ROW * row as f64 + 4.0;
        let (items, middle) = (case.items as f64, y + ROW / 2.0);
        let (low, high) = (width(case.interval_ns.0 / items), width(case.interval_ns.1 / items));
        let beside = match row {
            0 => String::new(),
            _ => format!(", first / this {}", ratio(&group.cases[0], case)),
        };
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>\
             <line stroke=\"#222\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}{beside}</text>",
            NAMES - 8.0,
            middle + 4.0,
            escape(&case.name),
            y + 4.0,
            width(case.item_ns()),
            ROW - 8.0,
            COLOURS[usize::from(row > 0) * 5],
            NAMES + low,
            NAMES + high,
            NAMES + high + 8.0,
            middle + 4.0,
            duration(case.item_ns())
        );
    }
    svg.push_str("</svg>\n");
    svg
}
