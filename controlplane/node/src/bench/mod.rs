//! What `roko bench` makes of measurements: curves, bars, and a page that needs nothing from any network.

pub mod bars;
pub mod criterion;
pub mod curves;
pub mod page;

use roko_pipeline::histogram::Histogram;

/// A histogram with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What it is of.
    pub name: String,
    /// From where it counts.
    pub since: String,
    /// Its durations.
    pub histogram: Histogram,
}

/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008), but for the yellow one, which white hides.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/// A second round of the colours is dashed.
const DASHES: [&str; 3] = ["", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 3\""];

/// Text that is safe in SVG and HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A duration in the unit that needs the fewest digits, to three significant ones.
#[must_use]
pub fn duration(nanos: f64) -> String {
    let (value, unit) = match nanos {
        below if below < 1e3 => (nanos, "ns"),
        below if below < 1e6 => (nanos / 1e3, "us"),
        below if below < 1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = match value {
        small if small < 10.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_markup_is_text() {
        let of = |nanos: f64| duration(nanos);
        assert_eq!(
            [of(7.0), of(1_234.0), of(56_789_000.0), of(2.5e9)],
            ["7.00 ns", "1.23 us", "56.8 ms", "2.50 s"]
        );
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
