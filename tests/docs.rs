//! What can be checked of what people read: README, documents, headers, names of promises.
//!
//! Owns: the bounds of the texts and that what they name is there. Does not know: whether what they
//! say is true; their examples are compiled and run with the tests of rustdoc.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// It is the first thing that a stranger reads, so it stays short.
const README_BYTES: usize = 9_216;

/// The widest line of a comment.
const COLUMNS: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of a kind under these folders and files, with their paths from the top.
fn files(places: &[&str], extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for place in places {
        for entry in walkdir::WalkDir::new(root().join(place)) {
            let path = entry.unwrap().into_path();
            if path.extension().is_some_and(|own| own == extension) {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} in {places:?}");
    found
}

fn rust() -> Vec<(String, String)> {
    let mut files = files(&["src", "tests", "benches", "examples"], "rs");
    files.retain(|(name, _)| !name.contains("/target/"));
    files
}

fn documents() -> Vec<(String, String)> {
    let places = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "tests/README.md",
        "docs",
    ];
    files(&places, "md")
}

#[test]
fn the_readme_is_short() {
    let bytes = read("README.md").len();
    assert!(
        bytes <= README_BYTES,
        "README.md has {bytes} bytes, more than {README_BYTES}; move what is not for a first reader to docs/"
    );
}

#[test]
fn no_comment_is_wider_than_a_screen() {
    let mut wide = Vec::new();
    for (name, text) in rust() {
        for (number, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            // What has no space cannot be broken: an address.
            let can_break = line
                .trim_start()
                .trim_start_matches('/')
                .trim()
                .contains(' ');
            if is_comment && can_break && line.chars().count() > COLUMNS {
                wide.push(format!("{name}:{}", number + 1));
            }
        }
    }
    assert!(
        wide.is_empty(),
        "wider than {COLUMNS} columns, break the lines: {wide:#?}"
    );
}

#[test]
fn every_module_begins_with_a_header() {
    let mut bare = Vec::new();
    for (name, text) in rust() {
        if !text.starts_with("//! ") && !name.starts_with("tests/fuzz/") {
            bare.push(name);
        }
    }
    assert!(
        bare.is_empty(),
        "say in the first lines what each owns and does not know: {bare:#?}"
    );
}

/// Returns the ids that the headings of the guarantees define: `## G9: ...`.
fn promises() -> BTreeSet<u32> {
    let text = read("docs/guarantees.md");
    let ids = text.lines().filter_map(|line| {
        let (id, _) = line.strip_prefix("## G")?.split_once(':')?;
        id.parse().ok()
    });
    ids.collect()
}

/// Returns the ids that a text names: as `g9_` at the start of a test's name, and as `"G9:`.
fn named(text: &str) -> BTreeSet<u32> {
    let id_after = |start: &str, end: char| {
        let places = text.match_indices(start).map(|(at, _)| at + start.len());
        let ids = places.filter_map(|at| text[at..].split_once(end)?.0.parse().ok());
        ids.collect::<BTreeSet<u32>>()
    };
    &(&id_after("fn g", '_') | &id_after("_g", '_')) | &id_after("\"G", ':')
}

#[test]
fn every_promise_that_is_named_is_defined_and_tested() {
    let defined = promises();
    assert_eq!(
        named("fn g9_g10_x() \"G11: y\" \"G12 z\" g13"),
        [9, 10, 11].into()
    );
    let mut tested = BTreeSet::new();
    let mut strange = Vec::new();
    for (name, text) in rust() {
        if name == "tests/docs.rs" {
            continue;
        }
        let ids = named(&text);
        if !ids.is_subset(&defined) {
            strange.push(format!("{name}: {:?}", &ids - &defined));
        }
        tested.extend(ids);
    }
    assert!(
        strange.is_empty(),
        "docs/guarantees.md has no heading for these: {strange:#?}"
    );
    assert_eq!(tested, defined, "promises that no test names");
}

#[test]
fn the_tests_that_the_guarantees_name_are_there() {
    let text = read("docs/guarantees.md");
    let mut missing = Vec::new();
    let mut count = 0;
    for code in text.split('`').skip(1).step_by(2) {
        if !code.starts_with("src/") && !code.starts_with("tests/") {
            continue;
        }
        for path in spread(code) {
            count += 1;
            if !root().join(&path).exists() {
                missing.push(path);
            }
        }
    }
    assert!(count > 50, "only {count} paths were found");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A cut that is shorter than the lease may cost an exclusive run all the same, which nobody would
/// guess.
#[test]
fn g9_and_g10_say_when_exclusive_runs_are_dropped() {
    let text = read("docs/guarantees.md");
    for promise in ["## G9: ", "## G10: "] {
        let (_, section) = text.split_once(promise).unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let words: Vec<_> = section.split_whitespace().collect();
        assert!(
            words.join(" ").contains("at four fifths of the lease"),
            "{promise} does not say it"
        );
    }
}

/// Returns the paths of one with alternatives: `a/{b,c}.rs`.
fn spread(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (inside, after) = rest.split_once('}').unwrap();
    inside
        .split(',')
        .flat_map(|one| spread(&format!("{before}{one}{after}")))
        .collect()
}

/// Returns the targets of a document's links: `](target)` and `[name]: target`.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut targets = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let inline = line.match_indices("](").filter_map(|(at, _)| {
            let (target, _) = line[at + 2..].split_once(')')?;
            Some(target.to_owned())
        });
        targets.extend(inline);
        if let Some((name, target)) = line.split_once("]: ")
            && name.starts_with('[')
        {
            targets.push(target.to_owned());
        }
    }
    targets
}

/// Returns the anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for (name, text) in documents() {
        let folder = root().join(&name).parent().map(PathBuf::from).unwrap();
        for target in links(&text) {
            if target.starts_with("https://") {
                continue;
            }
            count += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = match path {
                "" => root().join(&name),
                path => folder.join(path),
            };
            let is_there = path.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&path).unwrap()).contains(&anchor.to_owned()));
            if !is_there {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(count > 40, "only {count} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Each link by a name (`[guide]`) has its target at the end of the document.
#[test]
fn every_link_by_name_has_a_target() {
    let mut broken = Vec::new();
    for (file, text) in documents() {
        for name in [
            "guide",
            "guarantees",
            "operations",
            "production",
            "troubleshooting",
        ]
        .into_iter()
        .chain(["architecture", "measurements", "Security"])
        {
            let used = text.contains(&format!("[{name}]"));
            if used
                && !text.contains(&format!("\n[{name}]: "))
                && !text.contains(&format!("[{name}]("))
            {
                broken.push(format!("{file}: [{name}]"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A message in the first column of a table, or in a list, stands in the sources word by word; `…`
/// stands for what differs.
#[test]
fn the_messages_of_the_troubleshooting_are_those_of_the_code() {
    let joined = |text: &str| {
        // A string that goes on in the next line goes on after its spaces.
        let parts = text.split("\\\n").map(str::trim_start);
        parts.collect::<Vec<_>>().concat()
    };
    let sources: Vec<_> = files(&["src"], "rs")
        .into_iter()
        .map(|(_, text)| joined(&text))
        .collect();
    let text = read("docs/troubleshooting.md").replace("``", "`");
    let mut unknown = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let told = match line.split('|').nth(1) {
            Some(cell) => cell,
            None if line.starts_with("- `") => line,
            None => continue,
        };
        for message in told.split('`').skip(1).step_by(2) {
            for part in message.split('…').map(str::trim) {
                if !part.contains(' ') {
                    continue;
                }
                count += 1;
                if !sources.iter().any(|source| source.contains(part)) {
                    unknown.push(part.to_owned());
                }
            }
        }
    }
    assert!(count > 60, "only {count} messages were found");
    assert!(unknown.is_empty(), "no source says: {unknown:#?}");
}

/// Returns a public module whose page in rustdoc would be empty.
#[test]
fn no_public_module_is_empty() {
    let mut empty = Vec::new();
    let all = files(&["src"], "rs");
    for (name, text) in &all {
        for line in text.lines() {
            let Some(module) = line.strip_prefix("pub mod ") else {
                continue;
            };
            let Some(module) = module.strip_suffix(';') else {
                continue;
            };
            let parent = name.trim_end_matches(".rs").trim_end_matches("/lib");
            let parent = parent.trim_end_matches("/mod");
            let file = format!("{parent}/{module}.rs");
            let (_, text) = all.iter().find(|(name, _)| *name == file).unwrap();
            let shows = text.lines().any(|line| {
                let line = line.trim_start();
                line.starts_with("pub ") || line.starts_with("documents! {")
            });
            if !shows {
                empty.push(file);
            }
        }
    }
    assert!(empty.is_empty(), "nothing public is in: {empty:#?}");
}

/// Returns the public functions of a file, each with its documentation.
fn public_functions(file: &str) -> Vec<(String, String)> {
    let mut docs = String::new();
    let mut found = Vec::new();
    for line in read(file).lines().map(str::trim_start) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push_str(doc);
            docs.push('\n');
            continue;
        }
        let function = line.strip_prefix("pub async fn ");
        if let Some(function) = function.or_else(|| line.strip_prefix("pub fn ")) {
            let name = function.split(['(', '<']).next().unwrap();
            found.push((name.to_owned(), docs.clone()));
        }
        // An attribute stands between a function and its documentation.
        if !line.starts_with("#[") {
            docs.clear();
        }
    }
    found
}

#[test]
fn every_method_that_a_user_calls_has_an_example() {
    let mut bare = Vec::new();
    for file in [
        "src/scheduler.rs",
        "src/scheduler/asking.rs",
        "src/scheduler/attaching.rs",
        "src/scheduler/kinds.rs",
        "src/scheduler/nodes.rs",
        "src/scheduler/stored.rs",
        "src/handlers.rs",
        "src/handlers/context.rs",
    ] {
        let functions = public_functions(file);
        assert!(!functions.is_empty(), "{file}");
        for (name, docs) in functions {
            if !docs.contains("```") && !docs.contains("has an example") {
                bare.push(format!("{file}: {name}"));
            }
        }
    }
    assert!(bare.is_empty(), "give these an example: {bare:#?}");
}

#[test]
fn the_example_of_each_builder_uses_every_setter() {
    let mut unused = Vec::new();
    for (builder, example) in [
        ("src/scheduler/builder.rs", "src/scheduler.rs"),
        ("src/node/builder.rs", "src/node.rs"),
    ] {
        let shown = read(example);
        let shown: Vec<_> = shown.lines().filter(|line| line.contains("///")).collect();
        let setters = public_functions(builder);
        assert!(setters.len() > 10, "{builder}");
        for (setter, _) in setters {
            let call = format!(".{setter}(");
            if !shown.iter().any(|line| line.contains(&call)) {
                unused.push(format!("{builder}: {setter}"));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:#?}");
}

/// Returns the setters of a value that is made by setting one thing after the other.
fn value_setters(file: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in read(file).lines().map(str::trim_start) {
        let line = line.replace("const fn", "fn");
        let sets = line.contains("(self") || line.contains("(mut self");
        if line.starts_with("pub fn ") && sets && line.ends_with("-> Self {") {
            let name = line["pub fn ".len()..].split(['(', '<']).next().unwrap();
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn the_example_of_each_value_uses_every_setter() {
    let mut unused = Vec::new();
    for file in [
        "src/execute.rs",
        "src/node.rs",
        "src/retry.rs",
        "src/engine/keep.rs",
        "src/store/place.rs",
        "src/net/tls.rs",
    ] {
        let text = read(file);
        let shown: Vec<_> = text.lines().filter(|line| line.contains("///")).collect();
        let setters = value_setters(file);
        assert!(!setters.is_empty(), "{file}");
        for setter in setters {
            let call = format!(".{setter}(");
            if !shown.iter().any(|line| line.contains(&call)) {
                unused.push(format!("{file}: {setter}"));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:#?}");
}

/// A file may be named by the end of its path, as in `scheduler/hello.rs`.
#[test]
fn the_files_that_the_architecture_names_are_there() {
    let text = read("docs/architecture.md");
    let all: Vec<_> = rust().into_iter().map(|(name, _)| name).collect();
    let mut missing = Vec::new();
    let mut count = 0;
    for code in text.split('`').skip(1).step_by(2) {
        if code.ends_with(".rs") {
            count += 1;
            let end = format!("/{code}");
            if !all.iter().any(|name| name == code || name.ends_with(&end)) {
                missing.push(code);
            }
        }
    }
    assert!(count > 40, "only {count} files were found");
    assert!(missing.is_empty(), "{missing:#?}");
}
