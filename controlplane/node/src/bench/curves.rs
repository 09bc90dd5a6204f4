//! Quantile curves: how long, against how rare, both on logarithmic axes.

use super::{COLOURS, DASHES, Named, duration, escape};
use core::fmt::Write;

const WIDTH: f64 = 1040.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 310.0;
const BOTTOM: f64 = 56.0;
const LINE: f64 = 17.0;
/// Quantiles of the horizontal axis: each nines more is as far again.
const TICKS: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
];
/// Points of a curve for a tenfold rarer quantile.
const POINTS: u32 = 24;

/// How far right a quantile lies: 1 for each nine.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

struct Frame {
    top: f64,
    nines_max: f64,
    /// Powers of ten of nanoseconds at the bottom and the top.
    low: f64,
    high: f64,
}

impl Frame {
    fn x(&self, nines: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * nines / self.nines_max
    }

    fn y(&self, nanos: f64) -> f64 {
        let share = (nanos.max(1.0).log10() - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - self.top) * share
    }
}

/// An SVG document with a curve for each of `all`, which are not empty. `lines` stand below the title. A curve ends where
/// fewer than one sample is left, at the longest one.
#[must_use]
pub fn curves(title: &str, lines: &[String], all: &[Named]) -> String {
    let most = all.iter().map(|named| named.histogram.count()).max().unwrap_or(1).max(10);
    let all_max = all.iter().map(|named| named.histogram.max_ns()).max().unwrap_or(1).max(10);
    let least = all.iter().filter_map(|named| named.histogram.quantile_ns(0.0)).min().unwrap_or(1).max(1);
    let low = (least as f64).log10().floor();
    let frame = Frame {
        top: 40.0 + LINE * lines.len() as f64,
        nines_max: (most as f64).log10(),
        low,
        high: (all_max as f64).log10().ceil().max(low + 1.0),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">\n\
         <style>text{{font:13px sans-serif;fill:#222}}.title{{font-size:17px;font-weight:bold}}.grid{{stroke:#ddd}}\
         .curve{{fill:none;stroke-width:2}}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{}</text>\n",
        escape(title)
    );
    for (at, line) in lines.iter().enumerate() {
        let y = 42.0 + LINE * at as f64;
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{y}\">{}</text>", escape(line));
    }
    grid(&mut svg, &frame);
    // The slowest stands first, as its curve does.
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|at| core::cmp::Reverse(all[*at].histogram.quantile_ns(0.5)));
    for (row, at) in order.into_iter().enumerate() {
        curve(&mut svg, &frame, &all[at], at, row);
    }
    svg.push_str("</svg>\n");
    svg
}

fn grid(svg: &mut String, frame: &Frame) {
    let (left, right) = (LEFT, frame.x(frame.nines_max));
    for power in frame.low as i32..=frame.high as i32 {
        let (nanos, y) = (10f64.powi(power), frame.y(10f64.powi(power)));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            y + 4.0,
            duration(nanos)
        );
    }
    let bottom = frame.y(10f64.powf(frame.low));
    for (quantile, label) in TICKS.iter().filter(|(quantile, _)| nines(*quantile) <= frame.nines_max) {
        let x = frame.x(nines(*quantile));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            frame.top,
            bottom + 20.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">percentile</text>",
        (left + right) / 2.0,
        bottom + 40.0
    );
}

fn curve(svg: &mut String, frame: &Frame, named: &Named, at: usize, row: usize) {
    let last = nines_of(named);
    let (colour, dash) = (COLOURS[at % COLOURS.len()], DASHES[at / COLOURS.len() % DASHES.len()]);
    let mut points = String::new();
    let steps = (last * f64::from(POINTS)).floor() as u32;
    for step in 0..=steps {
        let nines = f64::from(step) / f64::from(POINTS);
        if let Some(nanos) = named.histogram.quantile_ns(1.0 - 10f64.powf(-nines)) {
            let _ = write!(points, "{:.1},{:.1} ", frame.x(nines), frame.y(nanos as f64));
        }
    }
    let _ = write!(points, "{:.1},{:.1}", frame.x(last), frame.y(named.histogram.max_ns() as f64));
    let (name, since) = (escape(&named.name), escape(&named.since));
    let p50 = named.histogram.quantile_ns(0.5).map_or(String::new(), |nanos| duration(nanos as f64));
    let (x, y) = (WIDTH - RIGHT + 24.0, frame.top + 14.0 + LINE * row as f64);
    let _ = writeln!(
        svg,
        "<polyline class=\"curve\" stroke=\"{colour}\"{dash} points=\"{points}\"><title>{name} since {since}</title></polyline>\n\
         <line stroke=\"{colour}\" stroke-width=\"2\"{dash} x1=\"{x}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
         <text x=\"{:.1}\" y=\"{y:.1}\">{name} since {since}, p50 {p50}</text>",
        x + 24.0,
        y - 4.0,
        y - 4.0,
        x + 30.0
    );
}

fn nines_of(named: &Named) -> f64 {
    (named.histogram.count().max(1) as f64).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_pipeline::histogram::Histogram;

    #[test]
    fn every_curve_is_drawn_within_the_frame_and_named() {
        let of = |name: &str, range: core::ops::Range<u64>| {
            let mut histogram = Histogram::default();
            range.for_each(|nanos| {
                histogram.record(nanos * 1_000);
            });
            Named { name: name.into(), since: "wire".into(), histogram }
        };
        let all = [of("open", 1..1_000), of("a<b", 5..6), of("final", 1_000..90_000)];
        let svg = curves("stages & more", &["host".into()], &all);
        assert_eq!(svg.matches("<polyline").count(), all.len());
        assert!(
            svg.contains("stages &amp; more")
                && svg.contains("a&lt;b since wire")
                && !svg.contains("http://www.x")
        );
        assert!(
            svg.contains(">99.99</text>") && !svg.contains(">99.999</text>"),
            "89,000 samples have four nines"
        );
        let slow = svg.find("final since").expect("a name");
        assert!(slow < svg.find("open since").expect("a name"), "the slowest first");
        for points in svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            for point in points.split_whitespace() {
                let (x, y) = point.split_once(',').expect("a pair");
                let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
                assert!(
                    (LEFT..=WIDTH - RIGHT + 0.1).contains(&x) && (50.0..=HEIGHT - BOTTOM + 0.1).contains(&y),
                    "{point}"
                );
            }
        }
    }
}
