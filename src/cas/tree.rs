//! The rules of trees.
//!
//! Purpose: make a tree, spell it canonically, and refuse one that breaks a rule, for a tree may come from a
//! hostile cache.
//! Invariant: in a tree that passed, paths are sorted, relative and normal, none stands twice or below
//! something that is not a folder, no link leads out at any step, and the sizes add up; its bytes are its one
//! canonical spelling.
//! Must not know: disks, stores.

use std::collections::HashSet;

use super::types::{ArtifactRef, TREE_FORMAT, Tree, TreeFile, TreeLink};
use crate::digest::Digest;

/// The formats that earlier versions wrote.
const OLDER_FORMATS: [&str; 1] = ["kiln.tree/1"];
/// The most files, links and empty folders of a tree together.
pub(super) const MOST_ENTRIES: usize = 1_000_000;
/// The most folders on the way to a file.
pub(super) const DEEPEST: usize = 256;
/// The longest path in a tree, in bytes; also the longest target of a link.
const LONGEST_PATH: usize = 4096 - 256;
/// The longest name, in bytes: what file systems take.
const LONGEST_NAME: usize = 255;
/// The most bytes of a tree's JSON.
pub(super) const MOST_TREE_BYTES: u64 = 256 << 20;

impl Tree {
    /// A tree of these entries, sorted here.
    ///
    /// # Errors
    /// The rule broken, as a fragment.
    pub fn of(
        mut files: Vec<TreeFile>,
        mut links: Vec<TreeLink>,
        mut folders: Vec<String>,
    ) -> Result<Self, String> {
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        links.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        folders.sort_unstable();
        let tree = Self { format: TREE_FORMAT.to_owned(), files, links, folders };
        tree.check()?;
        Ok(tree)
    }

    /// Its canonical JSON: the bytes of its blob. (A test holds it against the general form.)
    pub fn to_json(&self) -> String {
        // Strings, integers and booleans always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The artifact it is, given the digest of its JSON. The sizes of a checked tree add up.
    pub(crate) fn artifact(&self, digest: Digest) -> ArtifactRef {
        let size = self.files.iter().map(|f| f.size).sum();
        ArtifactRef { digest, tree: true, executable: false, size }
    }

    /// Reads a tree's blob.
    ///
    /// # Errors
    /// The rule broken, as a fragment.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        /// The one field that every format has.
        #[derive(serde::Deserialize)]
        struct Format {
            format: String,
        }
        let tree: Self = match serde_json::from_slice(bytes) {
            Ok(tree) => tree,
            Err(e) => match serde_json::from_slice(bytes) {
                Ok(Format { format }) if OLDER_FORMATS.contains(&format.as_str()) => {
                    return Err(format!("it was made by an older format, `{format}`"));
                }
                _ => return Err(format!("it is not a tree ({e})")),
            },
        };
        if tree.format != TREE_FORMAT {
            return Err(format!("its format is not {TREE_FORMAT}"));
        }
        tree.check()?;
        if tree.to_json().as_bytes() != bytes {
            return Err("it is not canonical JSON".into());
        }
        Ok(tree)
    }

    fn check(&self) -> Result<(), String> {
        if self.files.len() + self.links.len() + self.folders.len() > MOST_ENTRIES {
            return Err(format!("it has more than {MOST_ENTRIES} entries"));
        }
        sorted(self.files.iter().map(|file| file.path.as_str()))?;
        sorted(self.links.iter().map(|link| link.path.as_str()))?;
        sorted(self.folders.iter().map(String::as_str))?;
        let mut above = HashSet::new();
        let mut leaves = HashSet::with_capacity(self.files.len());
        for path in self.paths() {
            check_path(path)?;
            if !leaves.insert(path) {
                return Err(format!("`{path}` stands twice"));
            }
            let mut path = path;
            while let Some((folder, _)) = path.rsplit_once('/') {
                if !above.insert(folder) {
                    break;
                }
                path = folder;
            }
        }
        if let Some(path) = self.paths().find(|path| above.contains(path)) {
            return Err(format!("`{path}` is a folder with something in it, and also something else"));
        }
        self.links.iter().try_for_each(|link| check_target(&link.path, &link.target))?;
        let total = self.files.iter().try_fold(0u64, |sum, f| sum.checked_add(f.size));
        total.map(drop).ok_or_else(|| "its sizes are too large".to_owned())
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        let files = self.files.iter().map(|file| file.path.as_str());
        let links = self.links.iter().map(|link| link.path.as_str());
        files.chain(links).chain(self.folders.iter().map(String::as_str))
    }
}

fn sorted<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut before = None;
    for path in paths {
        if before.is_some_and(|before| before >= path) {
            return Err(format!("`{path}` stands twice or out of order"));
        }
        before = Some(path);
    }
    Ok(())
}

/// Refuses the target of a link that is not some `..` followed by names, or that climbs out of the tree. What
/// is above a link is always a folder, so the `..` mean the same to everybody; the names after them may
/// lead over other links of the tree, none of which climbs out either.
pub(super) fn check_target(path: &str, target: &str) -> Result<(), String> {
    let shown = || target.chars().take(200).collect::<String>();
    let names = target.trim_start_matches("../");
    let (climbs, names) = match names {
        ".." => (target.split('/').count(), ""),
        names => ((target.len() - names.len()) / 3, names),
    };
    if climbs > path.matches('/').count() {
        return Err(format!("the link `{path}` to `{}` leads out of its folder", shown()));
    }
    if target.len() > LONGEST_PATH {
        return Err(format!("the target `{}`.. of a link is too long", shown()));
    }
    match names {
        "" if target == ".." || target.ends_with("/..") => Ok(()),
        "." if target == "." => Ok(()),
        names => check_path(names).map_err(|_| format!("the link `{path}` to `{}` is not normal", shown())),
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
    if path.matches('/').count() > DEEPEST {
        return Err(format!("the path `{}`.. has more than {DEEPEST} folders", shown()));
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

    fn link(path: &str, target: &str) -> TreeLink {
        TreeLink { path: path.into(), target: target.into() }
    }

    fn tree(files: &[&str], links: &[(&str, &str)], folders: &[&str]) -> Tree {
        Tree {
            format: TREE_FORMAT.into(),
            files: files.iter().map(|p| file(p)).collect(),
            links: links.iter().map(|(path, target)| link(path, target)).collect(),
            folders: folders.iter().map(|p| (*p).to_owned()).collect(),
        }
    }

    fn json(paths: &[&str]) -> String {
        tree(paths, &[], &[]).to_json()
    }

    fn accepted(tree: &Tree) -> bool {
        Tree::parse(tree.to_json().as_bytes()).is_ok()
    }

    #[test]
    fn a_tree_is_spelt_one_way() {
        let files = vec![file("b"), file("a/c"), file("a-b")];
        let tree = Tree::of(files, vec![link("l", "a/c")], vec!["e".into()]).unwrap();
        let d = Digest::of_bytes(b"");
        let one = |p| format!(r#"{{"digest":"{d}","path":"{p}","size":1}}"#);
        let all = ["a-b", "a/c", "b"].map(one).join(",");
        assert_eq!(
            tree.to_json(),
            format!(
                r#"{{"files":[{all}],"folders":["e"],"format":"kiln.tree/2","links":[{{"path":"l","target":"a/c"}}]}}"#
            )
        );
        let odd = Tree::of(vec![file("é \"\u{1}\u{7f}\u{2028}")], vec![], vec![]).unwrap();
        for tree in [tree, odd] {
            let general = crate::digest::canonical_json(&serde_json::to_value(&tree).unwrap());
            assert_eq!(tree.to_json(), general);
            assert_eq!(Tree::parse(tree.to_json().as_bytes()), Ok(tree));
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        let long = "x".repeat(300);
        let deep = "x/".repeat(300) + "x";
        for bad in ["", "/", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\\b", "a\0b", &long, &deep]
        {
            assert!(Tree::parse(json(&[bad]).as_bytes()).is_err(), "{bad}");
            assert!(!accepted(&tree(&[], &[(bad, "x")], &[])), "{bad}");
            assert!(!accepted(&tree(&[], &[], &[bad])), "{bad}");
        }
        assert!(Tree::parse(json(&["a", "a.b/..c", "é"]).as_bytes()).is_ok());
    }

    #[test]
    fn links_that_climb_out_at_any_step_are_refused() {
        for target in ["..", "../x", "/etc", "x/../../y", "", "./x", "x/", "x//y", "../..", "x/.."] {
            assert!(!accepted(&tree(&[], &[("l", target)], &[])), "{target}");
        }
        for target in ["../../x", "../../..", "../a/../../../x", "/x", ".././x"] {
            assert!(!accepted(&tree(&[], &[("a/l", target)], &[])), "{target}");
        }
        assert!(accepted(&tree(&["x"], &[("l", "x"), ("m", "gone"), ("n", ".")], &[])));
        assert!(accepted(&tree(&["x"], &[("a/b/l", "../../x"), ("a/b/m", "../.."), ("a/n", "..")], &[])));
    }

    #[test]
    fn a_path_that_is_twice_or_below_something_that_is_not_a_folder_is_refused() {
        for bad in [&["a", "a"][..], &["b", "a"], &["a", "a-b", "a/b"], &["a/b", "a/b/c/d"]] {
            assert!(Tree::parse(json(bad).as_bytes()).is_err(), "{bad:?}");
        }
        assert!(!accepted(&tree(&["l/x"], &[("l", "m")], &[])), "a file below a link");
        assert!(!accepted(&tree(&["l"], &[("l", "m")], &[])), "a file and a link");
        assert!(!accepted(&tree(&["e/x"], &[], &["e"])), "an empty folder that is not empty");
        assert!(!accepted(&tree(&[], &[("e", "x")], &["e"])), "a link and an empty folder");
    }

    #[test]
    fn sizes_that_overflow_other_formats_and_other_spellings_are_refused() {
        let mut tree = tree(&["a", "b"], &[], &[]);
        let good = tree.to_json();
        let unknown = good.replace("\"links\"", "\"kinds\":[],\"links\"");
        for bad in
            [format!(" {good}"), good.replace("tree/2", "tree/3"), good.replace(":1}", ":1.0}"), unknown]
        {
            assert!(Tree::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let older = r#"{"files":[],"format":"kiln.tree/1"}"#;
        let older = Tree::parse(older.as_bytes()).unwrap_err();
        assert!(older.contains("made by an older format"), "{older}");
        tree.files[0].size = u64::MAX;
        assert!(Tree::parse(tree.to_json().as_bytes()).is_err());
    }
}
