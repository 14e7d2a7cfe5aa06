//! The rules of trees.
//!
//! Purpose: make a tree of files, spell it canonically, and refuse one that breaks a rule, for a
//! tree may come from a hostile cache.
//! Invariant: in a tree that passed, paths are sorted, relative and normal, none stands twice, none is
//! both file and folder, and the sizes add up; its bytes are its one canonical spelling.
//! Must not know: disks, stores.

use std::collections::HashSet;

use serde_json::Value;

use super::types::{ArtifactRef, TREE_FORMAT, Tree, TreeFile};
use crate::digest::{Digest, canonical_json};

/// The most files of a tree.
pub(super) const MOST_FILES: usize = 1_000_000;
/// The longest path in a tree, in bytes.
const LONGEST_PATH: usize = 4096 - 256;
/// The longest name, in bytes: what file systems take.
const LONGEST_NAME: usize = 255;
/// The most bytes of a tree's JSON.
pub(super) const MOST_TREE_BYTES: u64 = 256 << 20;

impl Tree {
    /// A tree of files, sorted here.
    ///
    /// # Errors
    /// The rule broken, as a fragment.
    pub fn of(mut files: Vec<TreeFile>) -> Result<Self, String> {
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let tree = Self { format: TREE_FORMAT.to_owned(), files };
        tree.check()?;
        Ok(tree)
    }

    /// Its canonical JSON: the bytes of its blob.
    pub fn to_json(&self) -> String {
        // Strings, integers and booleans always have a JSON form.
        serde_json::to_value(self).map(|value| canonical_json(&value)).unwrap_or_default()
    }

    /// The artifact it is, given the digest of its JSON. The sizes of a checked tree add up.
    pub(super) fn artifact(&self, digest: Digest) -> ArtifactRef {
        ArtifactRef { digest, tree: true, executable: false, size: self.files.iter().map(|f| f.size).sum() }
    }

    /// Reads a tree's blob.
    ///
    /// # Errors
    /// The rule broken, as a fragment.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("it is no JSON ({e})"))?;
        if canonical_json(&value).as_bytes() != bytes {
            return Err("it is not canonical JSON".into());
        }
        let tree: Self = serde_json::from_value(value).map_err(|e| format!("it is no tree ({e})"))?;
        tree.check()?;
        Ok(tree)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != TREE_FORMAT {
            return Err(format!("its format is not {TREE_FORMAT}"));
        }
        if self.files.len() > MOST_FILES {
            return Err(format!("it has more than {MOST_FILES} files"));
        }
        let mut folders = HashSet::new();
        for file in &self.files {
            check_path(&file.path)?;
            let mut path = file.path.as_str();
            while let Some((folder, _)) = path.rsplit_once('/') {
                if !folders.insert(folder) {
                    break;
                }
                path = folder;
            }
        }
        if let Some(pair) = self.files.windows(2).find(|pair| pair[0].path >= pair[1].path) {
            return Err(format!("`{}` stands twice or out of order", pair[1].path));
        }
        if let Some(file) = self.files.iter().find(|f| folders.contains(f.path.as_str())) {
            return Err(format!("`{}` is both a file and a folder", file.path));
        }
        let total = self.files.iter().try_fold(0u64, |sum, f| sum.checked_add(f.size));
        total.map(drop).ok_or_else(|| "its sizes are too large".to_owned())
    }
}

/// Refuses a path that is not relative and normal, or that some file system would read otherwise.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let shown = || path.chars().take(200).collect::<String>();
    if path.len() > LONGEST_PATH {
        return Err(format!("the path `{}`.. is too long", shown()));
    }
    if path.contains(['\\', '\0']) {
        return Err(format!("the path `{}` has a backslash or a NUL", shown().escape_debug()));
    }
    for part in path.split('/') {
        if matches!(part, "" | "." | "..") {
            return Err(format!("the path `{}` is not relative and normal", shown()));
        }
        if part.len() > LONGEST_NAME {
            return Err(format!("a name in the path `{}`.. is too long", shown()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> TreeFile {
        TreeFile { path: path.into(), digest: Digest::of_bytes(b""), size: 1, executable: false }
    }

    fn json(paths: &[&str]) -> String {
        let files = paths.iter().map(|p| file(p)).collect();
        Tree { format: TREE_FORMAT.into(), files }.to_json()
    }

    #[test]
    fn a_tree_is_spelt_one_way() {
        let tree = Tree::of(vec![file("b"), file("a/c"), file("a-b")]).unwrap();
        let d = Digest::of_bytes(b"");
        let one = |p| format!(r#"{{"digest":"{d}","path":"{p}","size":1}}"#);
        let all = ["a-b", "a/c", "b"].map(one).join(",");
        assert_eq!(tree.to_json(), format!(r#"{{"files":[{all}],"format":"kiln.tree/1"}}"#));
        assert_eq!(Tree::parse(tree.to_json().as_bytes()), Ok(tree));
    }

    #[test]
    fn hostile_paths_are_refused() {
        let long = "x".repeat(300);
        let deep = "x/".repeat(3000) + "x";
        for bad in ["", "/", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\\b", "a\0b", &long, &deep]
        {
            assert!(Tree::parse(json(&[bad]).as_bytes()).is_err(), "{bad}");
        }
        assert!(Tree::parse(json(&["a", "a.b/..c", "é"]).as_bytes()).is_ok());
    }

    #[test]
    fn a_path_that_is_twice_or_both_file_and_folder_is_refused() {
        for bad in [&["a", "a"][..], &["b", "a"], &["a", "a-b", "a/b"], &["a/b", "a/b/c/d"]] {
            assert!(Tree::parse(json(bad).as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_that_overflow_another_format_and_other_spellings_are_refused() {
        let mut tree = Tree { format: TREE_FORMAT.into(), files: vec![file("a"), file("b")] };
        let good = tree.to_json();
        for bad in [format!(" {good}"), good.replace("tree/1", "tree/2"), good.replace(":1}", ":1.0}")] {
            assert!(Tree::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        tree.files[0].size = u64::MAX;
        assert!(Tree::parse(tree.to_json().as_bytes()).is_err());
    }
}
