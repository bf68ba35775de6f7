//! Who may use whom: rooms use only those listed before them, and no files use each other in a circle.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every room; a room uses those before it.
const ROOMS: [&str; 21] = [
    "error",
    "number",
    "bytes",
    "allocation",
    "dtype",
    "state",
    "simd",
    "axis",
    "kernel",
    "kernel::histogram",
    "kernel::query",
    "kernel::units",
    "kernel::summary",
    "parallel",
    "memory",
    "summary",
    "histogram",
    "units",
    "query",
    "many",
    "device",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The text of every module by its path, without comments and without its tests.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let mut sources = BTreeMap::new();
    for path in found {
        let inside = path.strip_prefix(&root).unwrap().with_extension("");
        let name = inside.iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("::");
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        let code: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap()).collect();
        sources.insert(name.trim_end_matches("::mod").to_owned(), code.join("\n"));
    }
    sources
}

/// The paths behind every `crate::` of a text, groups in braces taken apart.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        let path = &rest[..end];
        if let (Some(base), Some(group)) = (path.strip_suffix("::"), rest[end..].strip_prefix('{')) {
            let group = &group[..group.find('}').unwrap()];
            found.extend(group.split(',').map(|name| format!("{base}::{}", name.trim())));
        } else {
            found.push(path.to_owned());
        }
    }
    found
}

/// By module, the modules that it names.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let mut sources = sources();
    let root = sources.remove("lib").unwrap();
    // What the root passes on counts as where it comes from.
    let passed_on: BTreeMap<String, String> =
        paths(&root).into_iter().map(|path| (path.rsplit("::").next().unwrap().to_owned(), path)).collect();
    let module_of = |path: &str| {
        let path = passed_on.get(path).map_or(path, String::as_str);
        let mut parts: Vec<&str> = path.split("::").collect();
        while !parts.is_empty() && !sources.contains_key(&parts.join("::")) {
            parts.pop();
        }
        parts.join("::")
    };
    let names = |module: &String, code: &String| {
        paths(code).iter().map(|path| module_of(path)).filter(|name| !name.is_empty() && name != module).collect()
    };
    sources.iter().map(|(module, code)| (module.clone(), names(module, code))).collect()
}

fn room_of(module: &str) -> usize {
    let parts: Vec<&str> = module.split("::").collect();
    let place = |name: &str| ROOMS.iter().position(|&room| room == name);
    let inner = parts.get(..2).and_then(|two| place(&two.join("::")));
    inner.or_else(|| place(parts[0])).unwrap_or_else(|| panic!("{module} lies in no known room"))
}

#[test]
fn rooms_use_only_those_before_them() {
    let upwards: Vec<String> = arrows()
        .iter()
        .flat_map(|(module, names)| names.iter().map(move |name| (module, name)))
        .filter(|(module, name)| room_of(name) > room_of(module))
        .map(|(module, name)| format!("{module} uses {name}"))
        .collect();
    assert_eq!(upwards, Vec::<String>::new());
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut left = arrows();
    assert!(left.len() > 80, "{} files found", left.len());
    loop {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, names)| names.iter().all(|name| !left.contains_key(name)))
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        for module in free {
            left.remove(&module);
        }
    }
    assert_eq!(left.keys().collect::<Vec<_>>(), Vec::<&String>::new());
}
