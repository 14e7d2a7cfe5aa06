//! Records, listings and recipes.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde_json::Value;

use crate::cas::remote::pieces::Recipe;
use crate::cas::types::Tree;
use crate::cas::{parse_action, spell_action};
use crate::digest::{Digest, canonical_json, sealed};

/// A link that leads over more links than this leads nowhere.
const MOST_HOPS: usize = 100;

/// A record as it lies in a store. Its checksum and its key are made right, for no fuzzer finds them.
pub fn action(bytes: &[u8]) {
    let _ = sealed::open(bytes);
    let _ = parse_action(bytes, &Digest::of_bytes(b""));
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return };
    let Some(fields) = value.as_object_mut() else { return };
    let key = Digest::of_json(fields.get("key_inputs").unwrap_or(&Value::Null));
    fields.insert("key".into(), key.to_string().into());
    let text = sealed::seal(&canonical_json(&value));
    let Ok(action) = parse_action(text.as_bytes(), &key) else { return };
    assert_eq!(action.key, action.key_inputs.digest());
    assert!(action.outputs.len() <= 10_000);
    assert!(action.outputs.keys().all(|name| (1..=255).contains(&name.len())));
    assert!(action.outputs.values().all(|output| !(output.tree && output.executable)));
    let _ = action.inputs();
    let spelt = spell_action(&action).unwrap();
    assert_eq!(parse_action(spelt.as_bytes(), &key).as_ref(), Ok(&action));
    assert!(parse_action(spelt.as_bytes(), &Digest::of_bytes(spelt.as_bytes())).is_err());
}

/// The listing of a folder.
pub fn tree(bytes: &[u8]) {
    if let Ok(tree) = Tree::parse(bytes) {
        assert_eq!(tree.to_json().as_bytes(), bytes);
        check(&tree);
    }
    // The same in any order and spelling.
    let Ok(tree) = serde_json::from_slice::<Tree>(bytes) else { return };
    if let Ok(tree) = Tree::of(tree.files, tree.links, tree.folders) {
        let json = tree.to_json();
        assert_eq!(json, canonical_json(&serde_json::to_value(&tree).unwrap()));
        assert_eq!(Tree::parse(json.as_bytes()).as_ref(), Ok(&tree));
        check(&tree);
    }
}

/// Nothing in a tree lies or leads outside of it, and its sizes add up.
fn check(tree: &Tree) {
    let _ = tree.artifact(Digest::of_bytes(b""));
    let paths = tree.files.iter().map(|file| &file.path).chain(&tree.folders);
    for path in paths.chain(tree.links.iter().map(|link| &link.path)) {
        assert!(!path.is_empty() && path.len() < 4096, "{path:?}");
        assert!(Path::new(path).components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
        assert!(path.split('/').all(|name| (1..=255).contains(&name.len())), "{path:?}");
    }
    let links: BTreeMap<&str, &str> =
        tree.links.iter().map(|link| (link.path.as_str(), link.target.as_str())).collect();
    for path in links.keys() {
        follow(path, &links);
    }
}

/// Follows a link as the system does, step by step; at no step it may be outside.
fn follow(path: &str, links: &BTreeMap<&str, &str>) {
    let (mut at, mut rest) = (Vec::new(), path.split('/').rev().collect::<Vec<_>>());
    let mut hops = 0;
    while let Some(name) = rest.pop() {
        match name {
            "." => {}
            ".." => assert!(at.pop().is_some(), "the link {path} climbs out"),
            name => {
                at.push(name);
                if let Some(target) = links.get(at.join("/").as_str()) {
                    assert!(!target.starts_with('/') && !target.is_empty(), "the link {path} climbs out");
                    at.pop();
                    rest.extend(target.split('/').rev());
                    hops += 1;
                }
            }
        }
        if hops > MOST_HOPS {
            return;
        }
    }
}

/// A recipe; its checksum and its digest are made right.
pub fn recipe(bytes: &[u8]) {
    let digest = Digest::of_bytes(b"blob");
    let _ = Recipe::parse(bytes, &digest);
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return };
    let Some(fields) = value.as_object_mut() else { return };
    fields.insert("digest".into(), digest.to_string().into());
    let text = sealed::seal(&value.to_string());
    let Ok(recipe) = Recipe::parse(text.as_bytes(), &digest) else { return };
    let sum = recipe.pieces.iter().map(|piece| u128::from(piece.length)).sum::<u128>();
    assert_eq!(sum, u128::from(recipe.size));
    for piece in &recipe.pieces {
        assert!(piece.pack < recipe.packs.len());
        assert!(piece.stored <= piece.length && piece.offset + piece.stored <= 256 << 20);
        assert!(piece.length <= 64 << 20 && piece.depth <= 3);
    }
    let spelt = recipe.to_bytes().unwrap();
    assert_eq!(Recipe::parse(&spelt, &digest).as_ref(), Ok(&recipe));
}
