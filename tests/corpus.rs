//! The corpora of the fuzz targets as ordinary tests: every input under `fuzz/corpus` through the check of its target.
//!
//! `fuzz/src/lib.rs` holds the checks, for this test and for the fuzz targets. Seeds have names that say what they are;
//! those that fuzzing found are named by their hash.

#[path = "../fuzz/src/lib.rs"]
mod checks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// All corpora together, in bytes: they are part of every clone.
const MAX_CORPUS_BYTES: usize = 1 << 20;

macro_rules! targets {
    ($($target:ident)*) => {
        const TARGETS: &[&str] = &[$(stringify!($target)),*];

        $(#[test]
        fn $target() {
            run(stringify!($target), checks::$target::check);
        })*
    };
}

targets! {
    config http_body http_calls http_head http_session http_target jsonrpc_body jsonrpc_request router_frames websocket
}

fn run(target: &str, check: fn(&[u8])) {
    let inputs = entries(&fuzz().join("corpus").join(target));
    assert!(!inputs.is_empty(), "fuzz/corpus/{target} is empty");
    for path in inputs {
        let data = fs::read(&path).expect("readable");
        // The last line before a panic says which input it was.
        println!("{}", path.display());
        check(&data);
    }
}

#[test]
fn every_target_has_a_corpus_and_runs_here() {
    let named: BTreeSet<String> = TARGETS.iter().map(|&target| target.to_owned()).collect();
    let stems = |folder: &str| -> BTreeSet<String> {
        let entries = entries(&fuzz().join(folder));
        entries
            .iter()
            .map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(stems("fuzz_targets"), named);
    assert_eq!(stems("corpus"), named);
}

#[test]
fn the_corpora_are_small() {
    let folders = entries(&fuzz().join("corpus"));
    let inputs = folders.iter().flat_map(|folder| entries(folder));
    let bytes: usize = inputs.map(|path| fs::read(path).expect("readable").len()).sum();
    assert!(bytes < MAX_CORPUS_BYTES, "{bytes} bytes");
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// In the order of their names. A folder that is not there fails the test.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = read.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}
