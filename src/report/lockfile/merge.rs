//! The merge of lock files, stanza by stanza.
//!
//! Purpose: what git's merge driver needs: a stage that changed on one side takes that side.
//! Invariant: a stage that changed on both sides in different ways becomes a conflict with the markers of
//! git; every other stanza comes out whole.
//! Must not know: git, files.

use std::collections::BTreeSet;

use super::file::{HEADER, LockFile, named};

/// The result of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The text of the merged file.
    pub text: String,
    /// The stages in conflict.
    pub conflicts: Vec<String>,
}

/// Merges two lock files that came from `base`.
pub fn merge(base: &LockFile, ours: &LockFile, theirs: &LockFile) -> Merged {
    let names: BTreeSet<_> = ours.stanzas.keys().chain(theirs.stanzas.keys()).collect();
    let mut merged = Merged { text: HEADER.to_owned(), conflicts: Vec::new() };
    for name in names {
        let stanza = |file: &'_ LockFile| file.stanzas.get(name).map(|stanza| named(name, stanza));
        let (base, ours, theirs) = (stanza(base), stanza(ours), stanza(theirs));
        let taken = if ours == theirs || base == theirs {
            ours
        } else if base == ours {
            theirs
        } else {
            merged.conflicts.push(serde_json::from_str(name).unwrap_or_else(|_| name.clone()));
            let (ours, theirs) = (ours.unwrap_or_default(), theirs.unwrap_or_default());
            Some(format!("<<<<<<< ours\n{ours}=======\n{theirs}>>>>>>> theirs\n"))
        };
        merged.text.push_str(&taken.unwrap_or_default());
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn lock(stages: &[(&str, u32)]) -> LockFile {
        let stanzas = stages.iter().map(|(name, n)| named(name, &format!("    key: {n}\n")));
        LockFile::read(PathBuf::new(), format!("{HEADER}{}", stanzas.collect::<String>()))
    }

    #[test]
    fn a_stage_that_changed_on_one_side_takes_that_side() {
        let base = lock(&[("a", 1), ("b", 1), ("gone", 1), ("same", 1)]);
        let ours = lock(&[("a", 2), ("b", 1), ("gone", 1), ("new", 1), ("same", 2)]);
        let theirs = lock(&[("a", 1), ("also", 1), ("b", 3), ("same", 2)]);
        let merged = merge(&base, &ours, &theirs);
        assert_eq!(merged.conflicts, [""; 0]);
        let expected = lock(&[("a", 2), ("also", 1), ("b", 3), ("new", 1), ("same", 2)]);
        assert_eq!(LockFile::read(PathBuf::new(), merged.text).stanzas, expected.stanzas);
    }

    #[test]
    fn a_stage_that_changed_on_both_sides_is_a_conflict() {
        let merged = merge(&lock(&[("a", 1)]), &lock(&[("a", 2)]), &lock(&[("a", 3)]));
        assert_eq!(merged.conflicts, ["a"]);
        assert!(
            merged
                .text
                .ends_with("<<<<<<< ours\n  a:\n    key: 2\n=======\n  a:\n    key: 3\n>>>>>>> theirs\n")
        );
        let merged = merge(&lock(&[("a", 1)]), &lock(&[]), &lock(&[("a", 3)]));
        assert!(merged.text.ends_with("<<<<<<< ours\n=======\n  a:\n    key: 3\n>>>>>>> theirs\n"));
    }
}
