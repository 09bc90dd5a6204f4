//! Cost against size as an SVG document: sizes on a logarithmic axis, nanoseconds on a linear one that begins at 0.

use core::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 290.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 56.0;
/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000"];

/// A line of the plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is of.
    pub name: String,
    /// Nanoseconds at each size.
    pub nanos: Vec<f64>,
}

fn y(nanos: f64, most: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * nanos / most
}

/// The document; `sizes` ascend, and each line has a value for each. `note` stands below the title.
#[must_use]
pub fn cost_against_size(title: &str, note: &str, axis: &str, sizes: &[usize], lines: &[Line]) -> String {
    let log = |size: usize| (size.max(1) as f64).log2();
    let (low, high) = (log(sizes[0]), log(sizes[sizes.len() - 1]));
    let x = |size: usize| LEFT + (WIDTH - LEFT - RIGHT) * (log(size) - low) / (high - low).max(1.0);
    let step = step_for(lines.iter().flat_map(|line| &line.nanos).copied().fold(1.0, f64::max));
    let steps = lines.iter().flat_map(|line| &line.nanos).map(|nanos| (nanos / step).ceil() as u32);
    let steps = steps.max().unwrap_or(1).max(1);
    let most = f64::from(steps) * step;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">\n\
         <style>text{{font:13px sans-serif;fill:#222}}.title{{font-size:17px;font-weight:bold}}.grid{{stroke:#ddd}}\
         polyline{{fill:none;stroke-width:2}}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n<text x=\"{LEFT}\" y=\"44\">{note}</text>\n"
    );
    for at in 0..=steps {
        let (nanos, y) = (f64::from(at) * step, y(f64::from(at) * step, most));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{nanos} ns</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0
        );
    }
    for &size in sizes {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{size}</text>",
            x(size),
            HEIGHT - BOTTOM + 20.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{axis}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - BOTTOM + 42.0
    );
    for (at, line) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let mut points = String::new();
        for (&size, &nanos) in sizes.iter().zip(&line.nanos) {
            let _ = write!(points, "{:.1},{:.1} ", x(size), y(nanos, most));
        }
        let (left, row) = (WIDTH - RIGHT + 20.0, TOP + 10.0 + 20.0 * at as f64);
        let _ = writeln!(
            svg,
            "<polyline stroke=\"{colour}\" points=\"{}\"/>\n\
             <line stroke=\"{colour}\" stroke-width=\"2\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{row:.1}\">{}</text>",
            points.trim_end(),
            left + 24.0,
            row - 4.0,
            row - 4.0,
            left + 30.0,
            line.name
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A round step of which about eight reach `most`.
fn step_for(most: f64) -> f64 {
    let power = 10f64.powf((most / 8.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| step * 8.0 >= most)
        .unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_the_frame_and_larger_ones_lie_higher() {
        let lines = [
            Line { name: "insert".into(), nanos: vec![10.0, 20.0, 900.0] },
            Line { name: "drain".into(), nanos: vec![0.0, 450.0, 30.0] },
        ];
        let svg = cost_against_size("title", "note", "transactions", &[1_024, 4_096, 65_536], &lines);
        let of = |points: &str| -> Vec<(f64, f64)> {
            let pair = |point: &str| {
                let (x, y) = point.split_once(',').expect("a pair");
                (x.parse().expect("a number"), y.parse().expect("a number"))
            };
            points.split_whitespace().map(pair).collect()
        };
        let drawn: Vec<_> =
            svg.split("points=\"").skip(1).map(|rest| of(rest.split('"').next().unwrap_or(""))).collect();
        assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        for (x, y) in drawn.iter().flatten() {
            assert!((LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y), "{x},{y}");
        }
        assert!(drawn[0][2].1 < drawn[0][1].1 && drawn[1][0].1 == HEIGHT - BOTTOM);
        assert!((drawn[0][1].0 - LEFT) * 3.0 - (WIDTH - RIGHT - LEFT) < 0.5, "the axis is logarithmic");
        assert!(["insert", "drain", "65536", "title"].iter().all(|text| svg.contains(text)));
    }

    #[test]
    fn steps_are_round_and_few() {
        for most in [1.0, 7.9, 80.0, 123.0, 999.0, 4_321.0] {
            let step = step_for(most);
            assert!((3.0..=8.0).contains(&(most / step)), "{most} by {step}");
        }
    }
}
