//! Names of files without folders for pictures in folders.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path};

/// A name for each path, without an extension, that no other has in any case of letters: `b` of `b.png`, `a_b` of
/// `a/b.png`, `b.png` of `b.png` if there is `b.jpg` as well.
///
/// The same paths have the same names, so that what was exported is found again.
pub(crate) fn unique(paths: &[&str]) -> Vec<String> {
    let flat = |path: &str| path.replace('/', "_");
    let short: Vec<String> = paths.iter().map(|path| flat(stem(path))).collect();
    let mut shared: HashMap<String, usize> = HashMap::new();
    for name in &short {
        *shared.entry(name.to_lowercase()).or_default() += 1;
    }
    // Pictures outside of folders come first: their names stay as they are.
    let mut order: Vec<usize> = (0..paths.len()).collect();
    order.sort_by_key(|&i| (paths[i].matches('/').count(), paths[i]));
    let mut used = HashSet::new();
    let mut names = vec![String::new(); paths.len()];
    for i in order {
        let is_shared = shared[&short[i].to_lowercase()] > 1;
        let full = flat(paths[i]);
        let mut name = if is_shared { &full } else { &short[i] }.clone();
        let mut number = 2;
        while !used.insert(name.to_lowercase()) {
            name = format!("{full}-{number}");
            number += 1;
        }
        names[i] = name;
    }
    names
}

/// A path without the extension of its file.
pub(crate) fn stem(path: &str) -> &str {
    match path.rfind('.') {
        Some(dot) if dot > path.rfind('/').map_or(0, |slash| slash + 1) => &path[..dot],
        _ => path,
    }
}

/// A name with the extension of a path.
pub(crate) fn with_extension(name: &str, path: &str) -> String {
    let extension = &path[stem(path).len()..];
    // Fewer programs know the other name of JPEG.
    let is_other = extension.eq_ignore_ascii_case(".jfif");
    format!("{name}{}", if is_other { ".jpg" } else { extension })
}

/// Whether a path stays in the folder that it begins in.
pub(crate) fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// A name of a folder for any text.
pub(crate) fn of_text(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || " -_+()".contains(c);
    let plain: String = text
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .take(60)
        .collect();
    let plain = plain.trim();
    if plain.is_empty() { "_" } else { plain }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_clash() {
        let paths = [
            "a/b.png",
            "a_b.png",
            "b.jpg",
            "b.png",
            "c.d.png",
            "B.tif",
            "x/y/z.png",
        ];
        let names = unique(&paths);
        assert_eq!(
            names,
            [
                "a_b.png-2",
                "a_b.png",
                "b.jpg",
                "b.png",
                "c.d",
                "B.tif",
                "x_y_z"
            ]
        );
        assert_eq!(unique(&["b.png", "b.jpg", "b.png.webp"])[2], "b.png.webp-2");
        let lower: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        assert_eq!(lower.len(), paths.len());
    }

    #[test]
    fn paths_that_lead_out_are_told() {
        for path in ["", "../a.png", "/a.png", "a/../../b.png"] {
            assert!(!is_below(path), "{path}");
        }
        assert!(is_below("a/b..png"));
        assert_eq!(
            [stem("a.b/c"), stem("a/.b"), stem("a/b.c.png")],
            ["a.b/c", "a/.b", "a/b.c"]
        );
        assert_eq!(
            [of_text("a/b: c"), of_text(" .. "), of_text("")],
            ["a_b_ c", "__", "_"]
        );
    }
}
