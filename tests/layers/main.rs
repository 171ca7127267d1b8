//! Who may import whom: values <- engine <- actors <- edges <- handles <- lib.
//!
//! Owns: the layer of each module, that modules import each other in no circle, and what the engine
//! may know of the world, and how long a file may be. Does not know: how the sources are read.

#![allow(clippy::unwrap_used, reason = "a test")]

mod reading;

use std::collections::{BTreeMap, BTreeSet};

use reading::{Source, code_of, has_word, long_files, sources};

/// The layers, lowest first. A module may name those of its own layer and of the lower ones.
const LAYERS: [(&str, &[&str]); 5] = [
    (
        "values",
        &[
            "task", "retry", "status", "config", "error", "stats", "encoding", "payload",
            "contain", "limit", "search", "text", "trace", "trail",
        ],
    ),
    // The drivers of the machines know no more of the world than these do.
    ("engine", &["engine", "testing"]),
    // What a user writes knows tokio and recipients, so it stands beside the actors.
    (
        "actors",
        &[
            "actors", "handlers", "client", "execute", "inbox", "links", "clock", "sync", "say",
            "repeats", "panics", "recorder", "snapshot", "otel",
        ],
    ),
    ("edges", &["net", "prometheus", "facade", "store"]),
    (
        "handles",
        &[
            "scheduler",
            "node",
            "host",
            "guide",
            "messages",
            "bin",
            "dashboard",
        ],
    ),
];

/// All that the values and the engine may name outside the crate. Whatever can tell the time, draw
/// a number, wait, or reach another thread or machine is absent.
const PURE_CRATES: [&str; 5] = ["std", "bytes", "serde", "smol_str", "thiserror"];
const PURE_STD: [&str; 19] = [
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
    "panic",
    "str",
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

/// Values that touch the world, none of which the engine decides by: a default that counts the
/// cores, and the buffer of the encoding.
const WORLDLY_VALUES: [(&str, &str); 7] = [
    ("config.rs", "std::thread: let cores"),
    ("encoding.rs", "rmp_serde"),
    ("contain.rs", "std::any"),
    // The place of a panic is known to a hook alone, on the thread that panics.
    ("contain.rs", "std::thread"),
    ("contain.rs", "thread_local"),
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
        "give these a layer in tests/layers: {strange:?}"
    );
}

#[test]
fn no_module_imports_a_higher_layer() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = layer(&source.module[0]) else {
            continue;
        };
        for path in source.inner_paths() {
            let Some(top) = path.first() else { continue };
            match layer(top) {
                Some(theirs) if theirs <= own => {}
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
}

/// Assumes that whoever names a module reaches all that is within it, too. A child may name what
/// its parents hold.
#[test]
fn no_modules_import_each_other_in_a_circle() {
    let circles = circles(&sources());
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}

/// Forbids globs, since the other tests would not see whence their names come. The root hands the
/// inside out to the tests so, and imports nothing itself.
#[test]
fn no_import_within_the_crate_is_a_glob() {
    let sources = sources();
    let inner = sources.iter().filter(|source| source.module != ["lib"]);
    let globs = inner.filter(|source| source.code.contains("::*"));
    let names: Vec<_> = globs.map(|source| &source.name).collect();
    assert!(names.is_empty(), "name what is imported: {names:?}");
}

#[test]
fn the_finder_of_circles_finds_them() {
    let source = |name: &str, code: &str| Source {
        name: format!("{name}.rs"),
        module: name.split('/').map(str::to_owned).collect(),
        code: code.to_owned(),
    };
    let parent = source("net", "pub use link::{Event, run};");
    let link = source("net/link", "use super::names::Gate;");
    // Through what the parent exports; and a parent and its child are no circle.
    let names = source("net/names", "use super::Event; use super::Config;");
    let roads = source("net/roads", "use crate::net::names::Gate;");
    // However the parent has it.
    for import in [
        "pub(super) use link::{Event, run};",
        "use link::Event;",
        "pub use crate::net::link::Event;",
        "pub(crate) use self::link::{run, Event};",
    ] {
        let parent = source("net", import);
        let link = source("net/link", "use super::names::Gate;");
        let names = source("net/names", "use super::Event;");
        let found = circles(&[parent, link, names]);
        assert_eq!(found, ["net/link.rs, net/names.rs"], "{import}");
    }
    // Through a child of what is named.
    let tls = source("net/tls", "mod handshake;");
    let handshake = source("net/tls/handshake", "use crate::net::proof::exchange;");
    let proof = source("net/proof", "use super::tls::Credentials;");
    let found = circles(&[parent, link, names, roads, tls, handshake, proof]);
    assert_eq!(
        found,
        [
            "net/link.rs, net/names.rs",
            "net/proof.rs, net/tls.rs, net/tls/handshake.rs"
        ]
    );
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

/// Checks that only `say` calls a subscriber, which is code of others and may panic, and `otel`,
/// within what `say` contains.
#[test]
fn only_say_writes_to_the_log() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.code.lines();
        let direct = lines
            .filter(|line| line.contains("tracing::") && !line.contains("tracing::info_span!"));
        wrong.extend(direct.map(|line| format!("{}: {}", source.name, line.trim())));
    }
    wrong.retain(|line| !line.starts_with("say.rs") && !line.starts_with("otel"));
    assert!(wrong.is_empty(), "use `say!`:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_so_long_that_nobody_reads_it() {
    let long = long_files(500);
    assert!(
        long.is_empty(),
        "over 500 lines, cut a part loose: {long:?}"
    );
}

#[test]
fn the_reader_of_paths_reads_them() {
    let source = Source {
        name: "engine/node/links.rs".to_owned(),
        module: ["engine", "node", "links"].map(str::to_owned).to_vec(),
        code: "use crate::{actors::{node, worker as w}, task::TaskId};\nuse super::super::SchedulerId;\nuse std::{fmt, thread};\n\
               pub(crate) use tokio::time::*; let x = crate::net::codec::message::frame(super::lease::Lease);"
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
        "engine::SchedulerId",
        "net::codec::message::frame",
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

/// Returns the groups of files that reach each other by their imports, each sorted and in one line.
fn circles(sources: &[Source]) -> Vec<String> {
    let by_module: BTreeMap<&[String], usize> = sources
        .iter()
        .enumerate()
        .map(|(index, source)| (source.module.as_slice(), index))
        .collect();
    let arrows: Vec<BTreeSet<usize>> = sources
        .iter()
        .map(|source| {
            let paths = source.inner_paths();
            let named = paths
                .iter()
                .filter_map(|path| target(path, sources, &by_module));
            let others = named.filter(|&other| !source.module.starts_with(&sources[other].module));
            let children = (0..sources.len()).filter(|&other| {
                let child = &sources[other].module;
                child.len() == source.module.len() + 1 && child.starts_with(&source.module)
            });
            others.chain(children).collect()
        })
        .collect();
    let reached: Vec<BTreeSet<usize>> = (0..sources.len())
        .map(|from| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<usize> = arrows[from].iter().copied().collect();
            while let Some(at) = next.pop() {
                if seen.insert(at) {
                    next.extend(&arrows[at]);
                }
            }
            seen
        })
        .collect();
    let groups: BTreeSet<Vec<&str>> = (0..sources.len())
        .filter(|&at| reached[at].contains(&at))
        .map(|at| {
            let mutual = reached[at]
                .iter()
                .filter(|&&other| reached[other].contains(&at));
            let mut names: Vec<_> = mutual.map(|&it| sources[it].name.as_str()).collect();
            names.sort_unstable();
            names
        })
        .collect();
    groups.into_iter().map(|group| group.join(", ")).collect()
}

/// Returns the file in which a path's item is: that of its longest module, or the one from which
/// that module has it.
fn target(
    path: &[String],
    sources: &[Source],
    by_module: &BTreeMap<&[String], usize>,
) -> Option<usize> {
    let (length, file) = (1..=path.len())
        .rev()
        .find_map(|length| Some((length, *by_module.get(&path[..length])?)))?;
    let Some(item) = path.get(length) else {
        return Some(file);
    };
    // What a module has by a `use`, public or not, its children can take from it.
    let source = &sources[file];
    let passed_on = source.uses().into_iter().find_map(|path| {
        let child = || [&source.module[..], &path[..]].concat();
        let from = source.resolve(&path).unwrap_or_else(child);
        let of = (1..from.len())
            .rev()
            .find_map(|length| by_module.get(&from[..length]));
        (path.last() == Some(item) && of.is_some_and(|&of| of != file)).then_some(from)
    });
    match passed_on {
        Some(from) => target(&from, sources, by_module),
        None => Some(file),
    }
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

#[test]
fn every_async_method_of_the_api_says_what_dropping_its_future_does() {
    let mut silent = Vec::new();
    for file in [
        "scheduler.rs",
        "scheduler/asking.rs",
        "scheduler/attaching.rs",
        "scheduler/builder.rs",
        "scheduler/nodes.rs",
        "node.rs",
        "node/builder.rs",
        "handlers/context.rs",
    ] {
        let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let mut docs = String::new();
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("pub async fn") && !docs.contains("# Cancel safety") {
                silent.push(format!("{file}: {line}"));
            }
            match line.strip_prefix("///") {
                Some(doc) => docs.push_str(doc),
                None => docs.clear(),
            }
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}
