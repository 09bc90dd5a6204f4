//! `WIRE.md` shows every vector in a block after a marker line, so that the document cannot drift from the code.

use super::{made, root, writes};

/// Digits on a line of a block.
const LINE_DIGITS: usize = 96;

fn marker(file: &str, name: &str) -> String {
    format!("<!-- vector {file}/{name} -->")
}

fn block(digits: &str) -> String {
    let lines: Vec<String> = digits
        .as_bytes()
        .chunks(LINE_DIGITS)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!("```text\n{}\n```", lines.join("\n"))
}

/// The document with the block after each marker replaced by the vector's.
fn rewritten(text: &str) -> String {
    let mut out = text.to_owned();
    for (file, vectors) in made() {
        for vector in vectors {
            let marker = marker(file, &vector.name);
            let Some(at) = out.find(&marker) else { continue };
            let after = at + marker.len();
            let rest = out[after..].to_owned();
            let tail = rest
                .strip_prefix("\n```text\n")
                .and_then(|rest| rest.split_once("\n```"))
                .map(|(_, tail)| tail);
            out.truncate(after);
            out.push('\n');
            out.push_str(&block(&vector.hex));
            out.push_str(tail.unwrap_or(&rest));
        }
    }
    out
}

#[test]
fn the_document_shows_every_vector_and_no_other() {
    let path = root().join("WIRE.md");
    let mut text = std::fs::read_to_string(&path).expect("WIRE.md exists");
    if writes() {
        text = rewritten(&text);
        std::fs::write(&path, &text).expect("WIRE.md can be written");
    }
    let mut count = 0;
    for (file, vectors) in made() {
        for vector in vectors {
            let shown = format!("{}\n{}\n", marker(file, &vector.name), block(&vector.hex));
            assert!(
                text.contains(&shown),
                "WIRE.md does not show {file}/{} as the code writes it",
                vector.name
            );
            count += 1;
        }
    }
    assert_eq!(text.matches("<!-- vector ").count(), count, "WIRE.md shows a vector that no code makes");
}

#[test]
fn the_document_names_every_limit_with_its_value() {
    let text = std::fs::read_to_string(root().join("WIRE.md")).expect("WIRE.md exists");
    for (name, value) in super::limits::table() {
        let row = format!("| `{name}` | {value} |");
        assert!(text.contains(&row), "WIRE.md has no row that begins {row}");
    }
}

#[test]
fn the_document_names_every_domain_string() {
    let document = std::fs::read_to_string(root().join("WIRE.md")).expect("WIRE.md exists");
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("src")).expect("the folder exists") {
        let source = std::fs::read_to_string(entry.expect("it can be listed").path()).expect("it is text");
        for rest in source.split("b\"roko/").skip(1) {
            let domain = rest.split('"').next().expect("a string ends");
            assert!(document.contains(&format!("`roko/{domain}`")), "WIRE.md does not name roko/{domain}");
            found += 1;
        }
    }
    assert!(found >= 10, "only {found} domain strings were found in the sources");
}
