//! Reads sections by the table: every problem is noted, none ends the reading.

use super::table::SECTIONS;
use super::value::Value;

/// Whether a key must be given. The text is TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It must; the text is an example.
    Required(&'static str),
    /// It need not; the text is what holds then.
    Default(&'static str),
    /// It need not; the text is an example.
    Optional(&'static str),
    /// Whether it must depends on another key; the text is an example that the example file sets.
    Suggested(&'static str),
}

/// A row of the table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) type_name: &'static str,
    pub(super) unit: &'static str,
    pub(super) presence: Presence,
    pub(super) range: Option<(u64, u64)>,
    pub(super) doc: &'static [&'static str],
}

/// A section of the table.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) list: bool,
    pub(super) doc: &'static [&'static str],
    pub(super) keys: &'static [Key],
}

/// One thing that is wrong with a configuration, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// The file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// Not TOML.
    #[error("the file is not TOML: {0}")]
    Syntax(String),
    /// No such key.
    #[error("{key}: there is no such key{}", suggestion.as_ref().map_or_else(
        || ": take it out (`roko config example` lists every key)".to_owned(),
        |nearest| format!("; did you mean {nearest}?")
    ))]
    Unknown {
        /// The key.
        key: String,
        /// The nearest that there is.
        suggestion: Option<String>,
    },
    /// A key that must be given.
    #[error("{key}: is missing: add it, for example {key} = {example} (in its section)")]
    Missing {
        /// The key.
        key: String,
        /// An example of its value.
        example: &'static str,
    },
    /// A value that the key cannot have.
    #[error("{key} = {value}: {why}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// Why not, and what to write instead.
        why: String,
    },
}

/// One section of a file while it is read.
pub(super) struct Reader<'a> {
    /// `node`, or `client[0]`.
    prefix: String,
    table: Option<&'a toml::Table>,
    problems: &'a mut Vec<ConfigProblem>,
}

impl Reader<'_> {
    /// The value of a key, its default when it is not given; `None` when that is a problem, which is noted.
    pub(super) fn value<T: Value>(&mut self, key: &Key) -> Option<T> {
        let name = format!("{}.{}", self.prefix, key.name);
        let Some(value) = self.table.and_then(|table| table.get(key.name)) else {
            return match key.presence {
                Presence::Default(text) => T::read(&toml_value(text), key.range).ok(),
                Presence::Optional(_) | Presence::Suggested(_) => T::absent(),
                Presence::Required(example) => {
                    self.problems.push(ConfigProblem::Missing { key: name, example });
                    None
                }
            };
        };
        let noted = |why| ConfigProblem::Value { key: name, value: shown(value), why };
        T::read(value, key.range).map_err(|why| self.problems.push(noted(why))).ok()
    }
}

/// A value of TOML's as it is written, cut when it is long.
pub(super) fn shown(value: &toml::Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 100 { text } else { text.chars().take(99).chain(['…']).collect() }
}

/// The table's own text as a value.
pub(super) fn toml_value(text: &str) -> toml::Value {
    let line = format!("value = {text}");
    let table: Option<toml::Table> = toml::from_str(&line).ok();
    // The table's texts are constants; a test reads each of them.
    table.and_then(|mut table| table.remove("value")).expect("the table's text is TOML")
}

/// A whole file while it is read.
pub(super) struct Document {
    table: toml::Table,
    pub(super) problems: Vec<ConfigProblem>,
}

impl Document {
    /// Splits the text into sections and notes what is in no section's list of keys.
    pub(super) fn new(text: &str) -> Result<Document, ConfigProblem> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|error| ConfigProblem::Syntax(error.to_string().trim().to_owned()))?;
        let mut document = Document { table, problems: Vec::new() };
        document.check_sections();
        Ok(document)
    }

    fn check_sections(&mut self) {
        for (name, value) in &self.table {
            let Some(section) = SECTIONS.iter().find(|section| section.name == name) else {
                self.problems.push(unknown(name));
                continue;
            };
            let shape = if section.list { format!("[[{name}]]") } else { format!("[{name}]") };
            let tables: Option<Vec<&toml::Table>> = match value {
                toml::Value::Table(table) if !section.list => Some(vec![table]),
                toml::Value::Array(array) if section.list => {
                    array.iter().map(toml::Value::as_table).collect()
                }
                _ => None,
            };
            let Some(tables) = tables else {
                let why = format!("is no {shape}: begin the section with a line {shape}");
                self.problems.push(ConfigProblem::Value { key: name.clone(), value: shown(value), why });
                continue;
            };
            for key in tables.iter().flat_map(|table| table.keys()) {
                if section.keys.iter().all(|known| known.name != key) {
                    self.problems.push(unknown(&format!("{name}.{key}")));
                }
            }
        }
    }

    /// Reads the section that is given once; it may be left out when nothing in it must be given.
    pub(super) fn section<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        let table = self.table.get(name);
        if table.is_some_and(|value| !value.is_table()) {
            return None; // Noted already: its keys are not missing beside that.
        }
        let table = table.and_then(toml::Value::as_table);
        read(&mut Reader { prefix: name.to_owned(), table, problems: &mut self.problems })
    }

    /// Reads every entry of a list.
    pub(super) fn list<T>(&mut self, name: &str, read: impl Fn(&mut Reader<'_>) -> Option<T>) -> Vec<T> {
        let entries = self.table.get(name).and_then(toml::Value::as_array).into_iter().flatten();
        let tables = entries.enumerate().filter_map(|(index, entry)| Some((index, entry.as_table()?)));
        let problems = &mut self.problems;
        tables
            .filter_map(|(index, table)| {
                let prefix = format!("{name}[{index}]");
                read(&mut Reader { prefix, table: Some(table), problems })
            })
            .collect()
    }
}

/// The problem of a key that no row has, with the nearest that one has.
fn unknown(key: &str) -> ConfigProblem {
    let sections = SECTIONS.iter().map(|section| section.name.to_owned());
    let keys = SECTIONS
        .iter()
        .flat_map(|section| section.keys.iter().map(|key| format!("{}.{}", section.name, key.name)));
    let known: Vec<String> = if key.contains('.') { keys.collect() } else { sections.chain(keys).collect() };
    // The same name in another section is nearer than a similar one: keys are put into the wrong section often.
    let last = |dotted: &str| dotted.rsplit('.').next().unwrap_or_default().to_owned();
    let same = known.iter().find(|known| known.contains('.') && last(known) == last(key)).cloned();
    let nearest = known.into_iter().map(|known| (distance(key, &known), known)).min();
    let near = nearest.filter(|(distance, known)| *distance <= 2 + known.len() / 4).map(|(_, known)| known);
    ConfigProblem::Unknown { key: key.to_owned(), suggestion: same.or(near) }
}

/// Fewest insertions, removals and replacements that turn one text into the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    // A key is cut, so that a file of one huge key costs little.
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(80).collect(), to.chars().collect());
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
