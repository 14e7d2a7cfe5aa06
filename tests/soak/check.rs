//! What must be true of a project.
//!
//! Purpose: compare what Kiln says and holds with what the world says.
//! Invariant: bytes are read from the store and hashed here; no digest of Kiln's is believed.
//! Must not know: what was done to the project before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::artifact::{Artifact, Entry, Leaf, sha256};
use crate::project::Project;
use crate::world::{Fate, World};

type Fates = BTreeMap<String, Fate>;

/// The stages that a plan calls cached, with what is wrong with the outputs of the first that is not right.
///
/// # Errors
/// A stage that the plan calls cached has other outputs than it should, in the record or in the store.
pub fn plan(project: &Project, world: &World) -> Result<Vec<String>, String> {
    let fates = world.evaluate();
    let plan = project.json(&["plan"])?;
    let stages = plan["stages"].as_array().ok_or_else(|| format!("no plan: {plan}"))?;
    let mut cached = Vec::new();
    for stage in stages.iter().filter(|stage| stage["state"] == "cached") {
        let name = stage["name"].as_str().unwrap_or_default();
        outputs(project, &fates, name, stage).map_err(|e| format!("`plan` calls {name} cached, but {e}"))?;
        cached.push(name.to_owned());
    }
    Ok(cached)
}

/// Compares what the action of a stage says, and the store holds, with what should be.
fn outputs(project: &Project, fates: &Fates, name: &str, stage: &Value) -> Result<(), String> {
    let Some(Fate::Made(expected)) = fates.get(name) else {
        return Err(format!("it cannot have been made: {:?}", fates.get(name)));
    };
    let key = stage["key"].as_str().ok_or("it has no key")?;
    let path = sharded(&project.store().join("actions"), key);
    let action: Value =
        serde_json::from_slice(&read(&path)?).map_err(|e| format!("{}: {e}", path.display()))?;
    for (output, artifact) in expected {
        let record = &action["record"]["outputs"][output];
        let planned = &stage["outputs"][output]["digest"];
        if *planned != record["digest"] {
            return Err(format!("output {output} has {planned} in the plan and {record} in its action"));
        }
        let found = stored(project, record).map_err(|e| format!("output {output}: {e}"))?;
        same(output, artifact, &found)?;
    }
    Ok(())
}

/// What the store holds under the reference of an output.
fn stored(project: &Project, record: &Value) -> Result<Artifact, String> {
    let digest = record["digest"].as_str().ok_or("it has no digest")?;
    if record["tree"] != true {
        let exec = record["executable"] == true;
        return Ok(Artifact::File(Leaf { text: blob(project, digest)?, exec }));
    }
    let tree: Value = serde_json::from_str(&blob(project, digest)?).map_err(|e| e.to_string())?;
    let mut entries = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| tree[name].as_array().cloned().unwrap_or_default();
    for file in list("files") {
        let leaf = Leaf { text: blob(project, &text(&file["digest"]))?, exec: file["executable"] == true };
        entries.insert(text(&file["path"]), Entry::File(leaf));
    }
    for link in list("links") {
        entries.insert(text(&link["path"]), Entry::Link(text(&link["target"])));
    }
    for folder in list("folders") {
        entries.insert(text(&folder), Entry::Folder);
    }
    let parents: Vec<String> = entries
        .keys()
        .flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>())
        .collect();
    entries.extend(parents.into_iter().map(|path| (path, Entry::Folder)));
    Ok(Artifact::Folder(entries))
}

/// The text of a blob, whose digest is checked.
fn blob(project: &Project, digest: &str) -> Result<String, String> {
    let path = sharded(&project.store().join("blobs"), digest);
    let bytes = read(&path)?;
    if sha256(&bytes) != digest {
        return Err(format!("blob {digest} has other bytes"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn sharded(folder: &Path, digest: &str) -> PathBuf {
    folder.join(digest.get(..2).unwrap_or_default()).join(digest.get(2..).unwrap_or_default())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn same(name: &str, expected: &Artifact, found: &Artifact) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let short = |artifact: &Artifact| format!("{artifact:?}").chars().take(1500).collect::<String>();
    Err(format!("output {name} is\n  {}\nand should be\n  {}", short(found), short(expected)))
}

/// Compares what `show` says of an output with what should be, if it is not said to be stale.
///
/// # Errors
/// It shows something else.
pub fn show(project: &Project, world: &World, stage: &str) -> Result<(), String> {
    let answer = project.kiln(&["show", stage, "--json"])?;
    let Ok(shown) = serde_json::from_str::<Value>(&answer.out) else {
        // It has not run yet, or its bytes are lost.
        return if answer.code == Some(1) { Ok(()) } else { Err(format!("`show {stage}`: {answer:?}")) };
    };
    let (fates, output) = (world.evaluate(), shown["name"].as_str().unwrap_or_default().rsplit('.').next());
    if shown["stale"] != false {
        return Ok(());
    }
    let Some(Fate::Made(outputs)) = fates.get(stage) else {
        return Err(format!("it cannot be fresh: {shown}"));
    };
    let path = shown["path"].as_str().unwrap_or_default();
    let found = Artifact::read(Path::new(path)).map_err(|e| format!("{path}: {e}"))?;
    let expected =
        output.and_then(|output| outputs.get(output)).ok_or_else(|| format!("no such output: {shown}"))?;
    same_but_for_the_bit(path, expected, found)
}

/// Compares the links below `out/`, and what they lead to, with what should be there.
///
/// # Errors
/// A link is missing or leads to something else.
pub fn links(project: &Project, world: &World) -> Result<(), String> {
    for (stage, fate) in world.evaluate() {
        let Fate::Made(outputs) = fate else { continue };
        for (output, artifact) in outputs {
            let path = project.store().join("out/soak").join(&stage).join(&output);
            let found = Artifact::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            same_but_for_the_bit(&path.display().to_string(), &artifact, found)?;
        }
    }
    Ok(())
}

/// A file that is shown is a blob, which has no executable bit of its own.
fn same_but_for_the_bit(path: &str, expected: &Artifact, mut found: Artifact) -> Result<(), String> {
    if let (Artifact::File(a), Artifact::File(b)) = (&mut found, expected) {
        a.exec = b.exec;
    }
    same(path, expected, &found)
}

/// What lies in the scratch folders, but for checkpoints; and locks that nobody holds.
pub fn scratch(project: &Project) -> Vec<String> {
    let mut found = Vec::new();
    let names = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    for shard in names(&project.store().join("work")) {
        let name = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for place in names(&shard) {
            if name == "quarantine" || name == "tmp" {
                // A file that a killed process was writing stays for a day.
                continue;
            }
            if name.len() != 2 {
                found.push(place);
                continue;
            }
            let kept = ["checkpoint", "metrics", "key"];
            let inside = names(&place);
            let checkpoint =
                place.join("checkpoint").read_dir().is_ok_and(|mut entries| entries.next().is_some());
            let more = inside
                .into_iter()
                .filter(|path| !checkpoint || !kept.iter().any(|name| path.ends_with(name)));
            found.extend(more);
        }
    }
    found.iter().map(|path| path.display().to_string()).collect()
}
