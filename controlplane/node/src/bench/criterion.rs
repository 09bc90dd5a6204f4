//! Criterion's results as it leaves them on disk: a folder for each case, with `new/benchmark.json` and
//! `new/estimates.json` in it.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folders above a case at most: group, function, value, and one to spare.
const DEPTH_MAX: usize = 5;

/// One case: how long an iteration took.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The operation.
    pub group: String,
    /// The way of doing it.
    pub name: String,
    /// Items that an iteration handles.
    pub items: u64,
    /// Median of an iteration, nanoseconds.
    pub median_ns: f64,
    /// The median's confidence interval (95 % by default), nanoseconds.
    pub interval_ns: (f64, f64),
    /// When it was measured.
    pub measured: SystemTime,
}

impl Case {
    /// The median of one item, nanoseconds.
    #[must_use]
    pub fn item_ns(&self) -> f64 {
        self.median_ns / self.items as f64
    }

    /// The ratio of this case's time to another's, with the bounds that both intervals leave.
    #[must_use]
    pub fn ratio_to(&self, other: &Case) -> (f64, f64, f64) {
        let of = |own: f64, own_items: u64, other: f64, other_items: u64| {
            own / own_items as f64 / (other / other_items as f64)
        };
        let ratio = |own, peer| of(own, self.items, peer, other.items);
        (
            ratio(self.interval_ns.0, other.interval_ns.1),
            ratio(self.median_ns, other.median_ns),
            ratio(self.interval_ns.1, other.interval_ns.0),
        )
    }
}

/// All ways of doing one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The operation.
    pub name: String,
    /// In the order in which they were measured: criterion keeps none, and its files' times do. The first is this
    /// project's, the others are its peers and floors.
    pub cases: Vec<Case>,
}

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum CriterionError {
    /// No such folder, or it may not be read.
    #[error("{path} cannot be read: {why}; run `cargo bench` first, or name its folder with --criterion")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// A file is no result.
    #[error("{path} is none of criterion's results: {why}; remove it, or run that bench again")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Nothing was measured.
    #[error("{path} holds no results: run `cargo bench` first, or name another folder with --criterion")]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
enum Throughput {
    Elements(u64),
    #[serde(untagged)]
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// Every result below `folder`, which is criterion's (`target/criterion`); groups by name.
///
/// # Errors
/// When there are none, or a file is not what criterion writes.
pub fn read(folder: &Path) -> Result<Vec<Group>, CriterionError> {
    let mut cases = Vec::new();
    collect(folder, DEPTH_MAX, &mut cases)?;
    cases.sort_by(|a: &Case, b| a.group.cmp(&b.group).then(a.measured.cmp(&b.measured)));
    let mut groups: Vec<Group> = Vec::new();
    for case in cases {
        match groups.last_mut() {
            Some(group) if group.name == case.group => group.cases.push(case),
            _ => groups.push(Group { name: case.group.clone(), cases: vec![case] }),
        }
    }
    match groups.is_empty() {
        true => Err(CriterionError::Empty { path: folder.to_owned() }),
        false => Ok(groups),
    }
}

fn collect(folder: &Path, depth: usize, cases: &mut Vec<Case>) -> Result<(), CriterionError> {
    let unreadable = |why| CriterionError::Unreadable { path: folder.to_owned(), why };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if !path.is_dir() {
            continue;
        }
        if path.ends_with("new") && path.join("benchmark.json").exists() {
            cases.push(case(&path)?);
        } else if depth > 0 {
            collect(&path, depth - 1, cases)?;
        }
    }
    Ok(())
}

fn case(folder: &Path) -> Result<Case, CriterionError> {
    let file = folder.join("benchmark.json");
    let benchmark: Benchmark = parse(&file)?;
    let estimates = folder.join("estimates.json");
    let Estimates { median } = parse(&estimates)?;
    let interval = (median.confidence_interval.lower_bound, median.confidence_interval.upper_bound);
    let numbers = [median.point_estimate, interval.0, interval.1];
    if !numbers.iter().all(|number| number.is_finite() && *number > 0.0) {
        let why = format!("a median of {numbers:?} ns");
        return Err(CriterionError::Malformed { path: estimates, why });
    }
    let unreadable = |why| CriterionError::Unreadable { path: file.clone(), why };
    let measured = std::fs::metadata(&file).and_then(|file| file.modified()).map_err(unreadable)?;
    let name =
        [benchmark.function_id, benchmark.value_str].into_iter().flatten().collect::<Vec<_>>().join("/");
    Ok(Case {
        name: if name.is_empty() { benchmark.group_id.clone() } else { name },
        group: benchmark.group_id,
        items: match benchmark.throughput {
            Some(Throughput::Elements(items)) => items.max(1),
            _ => 1,
        },
        median_ns: median.point_estimate,
        interval_ns: interval,
        measured,
    })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CriterionError> {
    let text = std::fs::read_to_string(path)
        .map_err(|why| CriterionError::Unreadable { path: path.to_owned(), why })?;
    serde_json::from_str(&text)
        .map_err(|why| CriterionError::Malformed { path: path.to_owned(), why: why.to_string() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    /// A case as criterion 0.8 leaves it.
    pub(in crate::bench) fn write(root: &Path, group: &str, name: &str, items: u64, median: f64, at: u64) {
        let folder = root.join(group.replace('/', "_")).join(name).join("new");
        std::fs::create_dir_all(&folder).expect("made");
        let benchmark = serde_json::json!({ "group_id": group, "function_id": name, "value_str": null,
            "throughput": { "Elements": items }, "full_id": "", "directory_name": "", "title": "" });
        let estimate = |of: f64| {
            serde_json::json!({ "point_estimate": of, "standard_error": 1.0, "confidence_interval":
            { "confidence_level": 0.95, "lower_bound": of * 0.9, "upper_bound": of * 1.25 } })
        };
        let estimates =
            serde_json::json!({ "mean": estimate(median), "median": estimate(median), "slope": null });
        std::fs::write(folder.join("estimates.json"), estimates.to_string()).expect("written");
        let file = folder.join("benchmark.json");
        std::fs::write(&file, benchmark.to_string()).expect("written");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + at);
        let file = std::fs::File::options().write(true).open(file).expect("opened");
        file.set_modified(time).expect("set");
    }

    #[test]
    fn groups_are_found_with_the_own_case_first() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "hop/size=64", "theirs", 10, 4_000.0, 2);
        write(folder.path(), "hop/size=64", "ours", 10, 1_000.0, 1);
        write(folder.path(), "commit", "alone", 1, 5.0, 3);
        std::fs::create_dir_all(folder.path().join("report")).expect("made");
        let groups = read(folder.path()).expect("results");
        let names: Vec<Vec<&str>> =
            groups.iter().map(|group| group.cases.iter().map(|case| case.name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["alone"], vec!["ours", "theirs"]]);
        let [ours, theirs] = &groups[1].cases[..] else { panic!("two cases") };
        assert_eq!(ours.item_ns(), 100.0);
        let (low, ratio, high) = ours.ratio_to(theirs);
        assert!((ratio - 0.25).abs() < 1e-9 && low < 0.19 && high > 0.34, "{low} {ratio} {high}");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_mends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = read(folder.path()).expect_err("nothing is there").to_string();
        assert!(empty.contains("cargo bench"), "{empty}");
        let missing = read(&folder.path().join("no")).expect_err("it is not there").to_string();
        assert!(missing.contains("--criterion"), "{missing}");
        write(folder.path(), "g", "c", 1, 0.0, 1);
        let zero = read(folder.path()).expect_err("no median is 0").to_string();
        assert!(zero.contains("estimates.json") && zero.contains("run that bench again"), "{zero}");
        std::fs::write(folder.path().join("g/c/new/benchmark.json"), "{}").expect("written");
        assert!(matches!(read(folder.path()), Err(CriterionError::Malformed { .. })));
    }
}
