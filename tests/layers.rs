//! Who may import whom: values <- engine <- actors <- edges <- handles <- lib.
//!
//! Owns: the layer of each module and what the engine may know of the world. It reads the sources as text:
//! the paths in their `use` lines, and every `crate::` and `super::` path beside them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A module may name those of its own layer and of the lower ones.
const LAYERS: [(&str, &[&str]); 5] = [
    (
        "values",
        &[
            "task", "retry", "status", "config", "error", "stats", "encoding", "payload",
        ],
    ),
    ("engine", &["engine"]),
    // What a user writes knows tokio and recipients, so it stands beside the actors.
    (
        "actors",
        &["actors", "handlers", "execute", "inbox", "links", "clock"],
    ),
    ("edges", &["net"]),
    ("handles", &["scheduler", "node", "host"]),
];

/// Arrows that point up for now: the file, the module that it names, and why.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "error.rs",
    "execute",
    "`ExecuteError` hands the `Execute` back, and all errors are in one file",
)];

/// All that the values and the engine may name outside the crate. Whatever can tell the time, draw a number,
/// wait, or reach another thread or machine is absent.
const PURE_CRATES: [&str; 5] = ["std", "bytes", "serde", "smol_str", "thiserror"];
const PURE_STD: [&str; 17] = [
    "borrow",
    "cell",
    "cmp",
    "collections",
    "convert",
    "error",
    "fmt",
    "hash",
    "io",
    "iter",
    "marker",
    "mem",
    "num",
    "ops",
    "sync",
    "time",
    "vec",
];

/// Words that no pure file may hold, however they were imported.
const IMPURE: [&str; 12] = [
    "Instant",
    "SystemTime::now",
    "std::thread",
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "Mutex",
    "Condvar",
    "mpsc",
    "RandomState",
    "thread_local",
];

/// Values that touch the world, none of which the engine decides by: a default that counts the cores, and the
/// buffer of the encoding.
const WORLDLY_VALUES: [(&str, &str); 4] = [
    ("config.rs", "std::thread: let cores"),
    ("encoding.rs", "rmp_serde"),
    ("encoding.rs", "std::any"),
    ("encoding.rs", "thread_local"),
];

#[test]
fn every_module_has_a_layer() {
    let mut strange: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.module != ["lib"] && layer(&source.module[0]).is_none())
        .map(|source| source.name)
        .collect();
    strange.sort();
    assert!(
        strange.is_empty(),
        "give these a layer in tests/layers.rs: {strange:?}"
    );
}

#[test]
fn no_module_imports_a_higher_layer() {
    let mut wrong = Vec::new();
    let mut excused = BTreeSet::new();
    for source in sources() {
        let Some(own) = layer(&source.module[0]) else {
            continue;
        };
        for path in source.inner_paths() {
            let Some(top) = path.first() else { continue };
            match layer(top) {
                Some(theirs) if theirs <= own => {}
                Some(_) if is_excused(&source.name, top) => {
                    excused.insert((source.name.clone(), top.clone()));
                }
                Some(theirs) => wrong.push(format!(
                    "{} ({}) names crate::{} ({})",
                    source.name,
                    LAYERS[own].0,
                    path.join("::"),
                    LAYERS[theirs].0
                )),
                None => wrong.push(format!(
                    "{} names crate::{}, which is no module: name the module, not the root's re-export",
                    source.name,
                    path.join("::")
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "wrong arrows:\n{}", wrong.join("\n"));
    for (file, module, why) in EXCEPTIONS {
        assert!(
            excused.contains(&(file.to_owned(), module.to_owned())),
            "{file} no longer names {module} ({why}): remove the exception"
        );
    }
}

#[test]
fn values_and_engine_know_no_clock_chance_thread_or_socket() {
    let mut wrong = Vec::new();
    for source in sources() {
        if layer(&source.module[0]).is_none_or(|layer| layer > 1) {
            continue;
        }
        for path in source.uses() {
            if !is_pure(&path) && !source.is_child(&path[0]) {
                wrong.push(format!("{} uses {}", source.name, path.join("::")));
            }
        }
        for line in source.code.lines() {
            for word in IMPURE.iter().filter(|word| has_word(line, word)) {
                wrong.push(format!("{} holds {word}: {}", source.name, line.trim()));
            }
        }
    }
    wrong.retain(|line| {
        !WORLDLY_VALUES
            .iter()
            .any(|(file, word)| line.starts_with(file) && line.contains(word))
    });
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}

#[test]
fn only_edges_and_handles_know_sockets() {
    let mut wrong = Vec::new();
    for source in sources() {
        if layer(&source.module[0]).is_none_or(|layer| layer > 2) {
            continue;
        }
        for word in [
            "TcpStream",
            "TcpListener",
            "tokio_util",
            "socket2",
            "UdpSocket",
        ] {
            if source.code.lines().any(|line| has_word(line, word)) {
                wrong.push(format!("{} holds {word}", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_paths_reads_them() {
    let source = Source {
        name: "engine/node/links.rs".to_owned(),
        module: ["engine", "node", "links"].map(str::to_owned).to_vec(),
        code: "use crate::{actors::{node, worker as w}, task::TaskId};\nuse super::super::Life;\nuse std::{fmt, thread};\n\
               pub(crate) use tokio::time::*; let x = crate::net::wire::frame(super::lease::Lease);"
            .to_owned(),
    };
    let inner: BTreeSet<String> = source
        .inner_paths()
        .iter()
        .map(|path| path.join("::"))
        .collect();
    for path in [
        "actors::node",
        "actors::worker",
        "task::TaskId",
        "engine::Life",
        "net::wire::frame",
        "engine::node::lease::Lease",
    ] {
        assert!(inner.contains(path), "{path} is not among {inner:?}");
    }
    let uses: BTreeSet<String> = source.uses().iter().map(|path| path.join("::")).collect();
    assert!(
        uses.contains("std::thread") && uses.contains("tokio::time"),
        "{uses:?}"
    );
    assert!(!is_pure(&["std".to_owned(), "thread".to_owned()]));
    assert_eq!(
        code_of("a // b\n\"c::d\" e /* f */\n#[cfg(test)]\nmod tests {\ng"),
        "a \n\"\" e \n"
    );
}

/// One source file, without its comments, strings and tests.
struct Source {
    name: String,
    module: Vec<String>,
    code: String,
}

impl Source {
    /// Paths within the crate, resolved, without `crate`.
    fn inner_paths(&self) -> Vec<Vec<String>> {
        let mut all = self.uses();
        all.extend(expressions(&self.code));
        all.into_iter()
            .filter_map(|path| self.resolve(&path))
            .collect()
    }

    /// What the `use` lines name, groups spread out.
    fn uses(&self) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for statement in self.code.split(';') {
            // The `use` may follow the end of an item and a visibility.
            let tail = statement
                .rsplit(['}', ']'])
                .find(|tail| has_word(tail, "use"));
            let start = statement.match_indices("use ").find(|(at, _)| {
                statement[..*at]
                    .chars()
                    .next_back()
                    .is_none_or(|c| c.is_whitespace())
            });
            if let (Some(_), Some((at, _))) = (tail, start) {
                spread(&statement[at + 4..], &[], &mut all);
            }
        }
        all
    }

    /// From the crate's root; `None` for a path that leads out of the crate.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let base = self.module.len().checked_sub(ups)?;
                Some([&self.module[..base], &path[ups..]].concat())
            }
            _ => None,
        }
    }

    /// Whether `use name::..` means a module that is declared in this file.
    fn is_child(&self, name: &str) -> bool {
        self.code.contains(&format!("mod {name};")) || self.code.contains(&format!("enum {name}"))
    }
}

fn is_excused(file: &str, module: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(source, named, _)| *source == file && *named == module)
}

fn is_pure(path: &[String]) -> bool {
    match path[0].as_str() {
        "crate" | "super" | "self" => true,
        "std" => path
            .get(1)
            .is_none_or(|module| PURE_STD.contains(&module.as_str())),
        other => PURE_CRATES.contains(&other),
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS
        .iter()
        .position(|(_, modules)| modules.contains(&module))
}

/// Every file under `src`, but those of tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(
        files.len() > 20,
        "only {} files under {}",
        files.len(),
        root.display()
    );
    files.iter().map(|file| source(&root, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if stem == "tests" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn source(root: &Path, file: &Path) -> Source {
    let name = file.strip_prefix(root).unwrap();
    let module = name.with_extension("");
    Source {
        name: name.to_str().unwrap().to_owned(),
        module: module
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect(),
        code: code_of(&fs::read_to_string(file).unwrap()),
    }
}

/// The text without comments, the contents of strings, and the tests at its end.
fn code_of(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod tests {") {
        Some(tests) => &text[..tests],
        None => text,
    };
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if c == '"' {
            code.push_str("\"\"");
            string_len(rest)
        } else {
            code.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `a::{b, c::{d as e, self}}` as `a::b`, `a::c::d`, `a::c`.
fn spread(tree: &str, before: &[String], all: &mut Vec<Vec<String>>) {
    let (head, group) = match tree.find('{') {
        Some(open) => (&tree[..open], Some(&tree[open + 1..])),
        None => (tree, None),
    };
    let mut path = before.to_vec();
    let head = head.split(" as ").next().unwrap();
    let parts = head.split("::").map(str::trim);
    path.extend(
        parts
            .filter(|part| {
                !part.is_empty() && *part != "*" && (path_is_empty(before) || *part != "self")
            })
            .map(str::to_owned),
    );
    let Some(group) = group else {
        all.push(path);
        return;
    };
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    spread(group[start..at].trim(), &path, all);
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

fn path_is_empty(path: &[String]) -> bool {
    path.is_empty()
}

/// Paths in expressions and types that start with `crate::` or `super::`.
fn expressions(code: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let tail = &code[at..];
            let end = tail
                .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                .unwrap_or(tail.len());
            let parts: Vec<String> = tail[..end]
                .split("::")
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect();
            // A group of a `use` is read by `spread`.
            if parts.len() > 1 {
                all.push(parts);
            }
        }
    }
    all
}

fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside)
    })
}
