//! Cases against each other in turns, their ratios, and the floors that they must reach.

use criterion::{Criterion, Throughput};
use std::time::Duration;

/// Rounds of a comparison: each runs every case once, beginning with another one each time.
const ROUNDS: usize = 41;
/// How long a case runs in a round; short, so that the cases of a round see the same machine.
const BATCH: Duration = Duration::from_millis(8);

/// One thing measured.
struct Case<'a> {
    name: String,
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
    iterations: u64,
    ns_per_item: Vec<f64>,
}

/// What the first case must reach.
struct Floor {
    /// The case it is measured against, or none for an absolute rate.
    peer: Option<usize>,
    /// At most this: a ratio of times to the peer's, or nanoseconds an item.
    at_most: f64,
    says: String,
}

/// Ways of doing one operation: the first case is this project's, the others are its peers and floors.
pub struct Comparison<'a> {
    operation: String,
    items: u64,
    cases: Vec<Case<'a>>,
    floors: Vec<Floor>,
}

/// Collects what a bench's comparisons found, and prints it at the end.
pub struct Report {
    mode: Mode,
    verdicts: Vec<String>,
}

/// How the bench was started.
enum Mode {
    /// By `cargo bench`: measure. Holds the filter that was given, if any.
    Measure(Option<String>),
    /// By `cargo test`: every case runs once, to see that it works.
    Try,
    /// Asked for its names only.
    List,
}

/// The first argument that is neither an option nor an option's value.
fn filter_of(arguments: &[String]) -> Option<String> {
    let is_option =
        |argument: &str| argument.starts_with("--") && !matches!(argument, "--bench" | "--noplot");
    let before = core::iter::once("").chain(arguments.iter().map(String::as_str));
    let plain = |(before, argument): &(&str, &String)| !argument.starts_with('-') && !is_option(before);
    before.zip(arguments).find(plain).map(|(_, argument)| argument.clone())
}

impl Report {
    /// Reads how the bench was started, and prints the host's fingerprint if it is to measure.
    #[must_use]
    pub fn new(bench: &str, port: &str) -> Report {
        // Before anything pins a thread.
        crate::two_threads::cores();
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let given = |name: &str| arguments.iter().any(|argument| argument == name);
        let filter = filter_of(&arguments);
        let mode = match (given("--list"), given("--bench")) {
            (true, _) => Mode::List,
            (false, true) => Mode::Measure(filter),
            (false, false) => Mode::Try,
        };
        if matches!(mode, Mode::Measure(_)) {
            crate::fingerprint::print(bench, port);
        }
        Report { mode, verdicts: Vec::new() }
    }

    /// Whether measurements are wanted, and not only a try.
    #[must_use]
    pub const fn measures(&self) -> bool {
        matches!(self.mode, Mode::Measure(_))
    }

    /// A criterion that is quick, because the paired rounds carry the claims.
    #[must_use]
    pub fn criterion() -> Criterion {
        Criterion::default()
            .sample_size(20)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_millis(1200))
            .without_plots()
            .configure_from_args()
    }

    /// Adds a line to the summary at the end.
    pub fn note(&mut self, line: String) {
        self.verdicts.push(line);
    }

    /// Prints the floors: which were met, and by how much.
    pub fn finish(self, criterion: Criterion) {
        criterion.final_summary();
        if !self.verdicts.is_empty() && self.measures() {
            println!("\nfloors and notes");
            self.verdicts.iter().for_each(|line| println!("  {line}"));
        }
    }
}

impl<'a> Comparison<'a> {
    /// A comparison named `operation`; an iteration of a case handles `items` items.
    #[must_use]
    pub fn new(operation: impl Into<String>, items: u64) -> Comparison<'a> {
        Comparison { operation: operation.into(), items, cases: Vec::new(), floors: Vec::new() }
    }

    /// Adds a case: `run` does so many iterations and returns the time of what is measured.
    #[must_use]
    pub fn case(mut self, name: &str, run: impl FnMut(u64) -> Duration + 'a) -> Comparison<'a> {
        let (name, run) = (name.to_owned(), Box::new(run));
        self.cases.push(Case { name, run, iterations: 1, ns_per_item: Vec::new() });
        self
    }

    /// Adds a case whose iteration is one call of `operation`.
    #[must_use]
    pub fn call<T>(self, name: &str, mut operation: impl FnMut() -> T + 'a) -> Comparison<'a> {
        self.case(name, move |iterations| {
            let began = std::time::Instant::now();
            for _ in 0..iterations {
                core::hint::black_box(operation());
            }
            began.elapsed()
        })
    }

    /// The first case takes at most `ratio` of the time of the case added last.
    #[must_use]
    pub fn floor_ratio(mut self, ratio: f64) -> Comparison<'a> {
        let peer = self.cases.len() - 1;
        let says = format!("time at most {ratio:.2}x of {}", self.cases[peer].name);
        self.floors.push(Floor { peer: Some(peer), at_most: ratio, says });
        self
    }

    /// The first case handles at least so many items a second.
    #[must_use]
    pub fn floor_rate(mut self, per_second: f64) -> Comparison<'a> {
        let says = format!("at least {per_second:.0} a second");
        self.floors.push(Floor { peer: None, at_most: 1e9 / per_second, says });
        self
    }

    /// Runs everything: criterion's figures, then the rounds, their table, and the floors into `report`.
    pub fn run(mut self, criterion: &mut Criterion, report: &mut Report) {
        let mut group = criterion.benchmark_group(&self.operation);
        group.throughput(Throughput::Elements(self.items));
        for case in &mut self.cases {
            group.bench_function(&case.name, |bencher| {
                bencher.iter_custom(|iterations| (case.run)(iterations))
            });
        }
        group.finish();
        let Mode::Measure(filter) = &report.mode else { return };
        if filter.as_ref().is_some_and(|filter| !self.operation.contains(filter.as_str())) {
            return;
        }
        self.rounds();
        self.print();
        self.judge(report);
    }

    fn rounds(&mut self) {
        let count = self.cases.len();
        for case in &mut self.cases {
            case.calibrate();
        }
        for round in 0..ROUNDS {
            for turn in 0..count {
                let case = &mut self.cases[(round + turn) % count];
                let ns = (case.run)(case.iterations).as_nanos() as f64;
                case.ns_per_item.push(ns / (case.iterations * self.items) as f64);
            }
        }
    }

    /// The ratios of the first case's times to another's, round by round.
    fn ratios(&self, peer: usize) -> Spread {
        let pairs = self.cases[0].ns_per_item.iter().zip(&self.cases[peer].ns_per_item);
        Spread::of(pairs.map(|(own, peer)| own / peer).collect())
    }

    fn print(&self) {
        println!("\n{}: {ROUNDS} rounds in turns; median [min .. max]", self.operation);
        for (at, case) in self.cases.iter().enumerate() {
            let ns = Spread::of(case.ns_per_item.clone());
            print!(
                "  {:28} {:>10} [{} .. {}] ns an item, {} a second",
                case.name,
                figure(ns.median),
                figure(ns.least),
                figure(ns.most),
                rate(1e9 / ns.median)
            );
            if at == 0 {
                println!();
            } else {
                let ratio = self.ratios(at);
                println!(
                    "; {} / this = {:.2} [{:.2} .. {:.2}]",
                    self.cases[0].name, ratio.median, ratio.least, ratio.most
                );
            }
        }
    }

    fn judge(&self, report: &mut Report) {
        for floor in &self.floors {
            let (reached, how) = match floor.peer {
                Some(peer) => {
                    let median = self.ratios(peer).median;
                    (median, format!("{median:.3}x, that is {:.2} times as fast", 1.0 / median))
                }
                None => {
                    let ns = Spread::of(self.cases[0].ns_per_item.clone()).median;
                    (ns, format!("{} a second", rate(1e9 / ns)))
                }
            };
            let met = if reached <= floor.at_most { "met" } else { "NOT met" };
            report.note(format!("{}: {met}: {how} (floor: {})", self.operation, floor.says));
        }
    }
}

impl Case<'_> {
    /// Finds how many iterations fill a batch, which also warms caches and branch predictors.
    fn calibrate(&mut self) {
        loop {
            let took = (self.run)(self.iterations);
            if took >= BATCH / 2 {
                let wanted = BATCH.as_secs_f64() / took.as_secs_f64() * self.iterations as f64;
                self.iterations = (wanted as u64).max(1);
                return;
            }
            self.iterations *= if took < BATCH / 16 { 8 } else { 2 };
        }
    }
}

/// Median and extremes.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Spread { least: values[0], median: values[last / 2], most: values[last] }
    }
}

fn figure(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else if value < 1000.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

fn rate(per_second: f64) -> String {
    if per_second >= 1e6 { format!("{:.2} M", per_second / 1e6) } else { format!("{per_second:.0}") }
}
