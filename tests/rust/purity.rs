//! The core does not depend on Python, and unsafe code is where it is expected.

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
fn python_is_named_only_in_its_bindings() {
    let mut found = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 20, "the sources were found");
    let mut gates = 0;
    for (path, text) in found {
        gates += text.matches("#[cfg(feature").count();
        for (name, folder) in
            [("pyo3", "/python/"), ("numpy::", "/python/"), ("ort_sys", "/operators/")]
        {
            assert!(path.contains(folder) || !text.contains(name), "{path} names {name}");
        }
    }
    assert_eq!(gates, 2, "two gates, in lib.rs: `mod operators` and `mod python`");
}

/// The number of unsafe blocks and functions of each file. Each has a comment that says why it is
/// sound.
const UNSAFE: [(&str, usize); 6] = [
    ("/simd/mod.rs", 3),
    ("/simd/denormals.rs", 2),
    ("/simd/zeros.rs", 2),
    ("/operators/runtime.rs", 20),
    ("/operators/table.rs", 13),
    ("/operators/registration.rs", 6),
];

#[test]
fn unsafe_code_is_where_it_is_counted_and_each_block_says_why_it_is_sound() {
    let mut found = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    for (path, text) in found {
        let count = |what: &str| text.matches(what).count();
        let blocks = count("unsafe {") + count("unsafe impl");
        let functions = count("unsafe fn") + count("unsafe extern \"system\" fn");
        let allowed =
            UNSAFE.iter().find(|(file, _)| path.ends_with(file)).map_or(0, |found| found.1);
        assert_eq!(blocks + functions, allowed, "{path}");
        assert_eq!(count("SAFETY: "), blocks, "{path}: a comment for each block");
    }
}
