//! The core knows nothing of Python.

use std::{fs, path::Path};

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            let text = fs::read_to_string(&path).expect("a source");
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn python_is_named_behind_its_border_only() {
    let mut found = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 20, "the sources were found");
    let mut gates = 0;
    for (path, text) in found {
        gates += text.matches("#[cfg(feature").count();
        if !path.contains("/python/") {
            for name in ["pyo3", "numpy::"] {
                assert!(!text.contains(name), "{path} names {name}");
            }
        }
    }
    assert_eq!(gates, 1, "one gate: `mod python` in lib.rs");
}

#[test]
fn unsafe_code_is_in_one_place() {
    let mut found = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    for (path, text) in found {
        let blocks = text.matches("unsafe {").count() + text.matches("unsafe fn").count();
        let allowed = usize::from(path.ends_with("simd.rs"));
        assert_eq!(blocks, allowed, "{path}");
    }
}
