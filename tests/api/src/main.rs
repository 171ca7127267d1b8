//! Compares the public interface of the crate with the list of it that is kept beside this program.
//!
//! Whoever changes the interface on purpose writes the list anew, with `--update`, and says in
//! `CHANGELOG.md` what has changed. Owns: the comparison. Does not know: whether a change is one
//! that breaks users; `cargo semver-checks` tells that.
//!
//! rustdoc writes what it reads, in a format that only compilers that are not yet stable offer by
//! right: `RUSTC_BOOTSTRAP` has the stable one offer it too.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

use public_api::Builder;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = here.join("list.txt");
    let list = list(&here.join("../.."))?;
    if env::args().any(|argument| argument == "--update") {
        fs::write(&kept, list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let before = fs::read_to_string(&kept)?;
    if before == list {
        println!("the public interface is as {} has it", kept.display());
        return Ok(ExitCode::SUCCESS);
    }
    let (old, new) = (lines(&before), lines(&list));
    for gone in old.difference(&new) {
        println!("- {gone}");
    }
    for added in new.difference(&old) {
        println!("+ {added}");
    }
    println!(
        "The public interface has changed. If it was meant to, run `cargo run --manifest-path \
         tests/api/Cargo.toml -- --update` and say in CHANGELOG.md what has changed."
    );
    Ok(ExitCode::FAILURE)
}

fn lines(list: &str) -> BTreeSet<&str> {
    list.lines().collect()
}

/// Returns the public items of the crate in this folder, one a line, with all features. rustdoc
/// gives them in no order that lasts, so they are sorted.
fn list(library: &Path) -> Result<String, Box<dyn Error>> {
    let target = library.join("target/api");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(library)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target)
        .args(["rustdoc", "--lib", "--all-features", "--quiet", "--"])
        .args(["-Z", "unstable-options", "--output-format", "json"])
        .status()?;
    if !status.success() {
        return Err("rustdoc has failed; what it wrote stands above".into());
    }
    let api = Builder::from_rustdoc_json(target.join("doc/callboard.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    let items: BTreeSet<String> = api.items().map(|item| format!("{item}\n")).collect();
    Ok(items.into_iter().collect())
}
