//! The sources as text: which paths their `use` lines name, and every `crate::` and `super::` path
//! beside them.
//!
//! Owns: finding the files and reading them. Does not know: which path is right.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file, without its comments, strings and tests.
pub struct Source {
    pub name: String,
    pub module: Vec<String>,
    pub code: String,
}

impl Source {
    /// Paths within the crate, resolved, without `crate`.
    pub fn inner_paths(&self) -> Vec<Vec<String>> {
        let mut all = self.uses();
        all.extend(expressions(&self.code));
        all.into_iter()
            .filter_map(|path| self.resolve(&path))
            .collect()
    }

    /// Returns what the `use` lines name, groups spread out.
    pub fn uses(&self) -> Vec<Vec<String>> {
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

    /// Resolves a path from the crate's root; `None` for one that leads out of the crate.
    pub fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&self.module[..], &path[1..]].concat()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let base = self.module.len().checked_sub(ups)?;
                Some([&self.module[..base], &path[ups..]].concat())
            }
            _ => None,
        }
    }

    /// Returns whether `use name::..` means a module that is declared in this file.
    pub fn is_child(&self, name: &str) -> bool {
        self.code.contains(&format!("mod {name};")) || self.code.contains(&format!("enum {name}"))
    }
}
/// Returns every file under `src`, but those of tests.
pub fn sources() -> Vec<Source> {
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

/// Returns the text without comments, the contents of strings, and the tests at its end.
pub fn code_of(text: &str) -> String {
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

/// Spreads `a::{b, c::{d as e, self}}` into `a::b`, `a::c::d`, `a::c`.
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

pub fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside)
    })
}

/// Returns the files of this crate, tests, benches and examples among them, that have more lines
/// than this.
pub fn long_files(most: usize) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut long = Vec::new();
    let mut folders: Vec<PathBuf> = ["src", "tests", "benches", "examples"]
        .iter()
        .map(|folder| root.join(folder))
        .collect();
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                read += 1;
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                if lines > most {
                    let name = path.strip_prefix(root).unwrap().display();
                    long.push(format!("{name} ({lines})"));
                }
            }
        }
    }
    assert!(read > 100, "only {read} files were found");
    long.sort();
    long
}
