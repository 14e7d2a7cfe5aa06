//! A card as Markdown.
//!
//! Purpose: the metadata in front, as the Hugging Face Hub reads it, and the sections in their order.
//! Invariant: the metadata holds what is true of the artifact and nothing else: no license, base model or data set of
//! the Hub is ever made up. The same facts give the same bytes.
//! Must not know: where facts come from.
//!
//! Source: Hugging Face Hub documentation, *Model Cards*.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::escape::{code, words, yaml};
use super::facts::{Card, Gap, Library};
use super::sections::{
    artifact, data, evaluations, lineage, made, metrics, model, reproduction, verification,
};

/// The first lines of every card.
pub const HEAD: &str =
    "---\n# Written by `kiln card` from the records of a pipeline; the next call replaces the file.\n";

/// The text of a card.
pub fn write(card: &Card) -> String {
    let sections = [
        ("The artifact", artifact(card)),
        ("How it was made", made(card)),
        ("The model", model(card)),
        ("Lineage", lineage(card)),
        ("Data", data(card)),
        ("Metrics", metrics(card)),
        ("Evaluation", evaluations(card)),
        ("How to make it again", reproduction(card)),
        ("How to verify it", verification(card)),
        ("Gaps", gaps(card)),
    ];
    let mut text = metadata(card) + &head(card);
    for (title, body) in sections.iter().filter(|(_, body)| !body.is_empty()) {
        // Writing to a text cannot fail.
        let _ = write!(text, "\n## {title}\n\n{body}");
    }
    text
}

fn metadata(card: &Card) -> String {
    let mut tags = BTreeSet::from(["kiln"]);
    let (kind, artifact_type) = (card.made.kind.as_str(), card.artifact.artifact_type.as_str());
    // What every pipeline has says nothing.
    tags.extend([kind, artifact_type].into_iter().filter(|tag| !["command", "any", ""].contains(tag)));
    if card.model.as_ref().is_some_and(|model| model.parameters.is_some()) {
        tags.insert("safetensors");
    }
    let mut text = HEAD.to_owned();
    // Without it the Hub would take any `config.json` for one of `transformers`.
    let library = card.model.as_ref().and_then(|model| model.library).map(Library::name);
    if let Some(library) = library.or(card.made.provider.as_deref()) {
        let _ = writeln!(text, "library_name: {}", yaml(library));
    }
    text += "tags:\n";
    tags.iter().for_each(|tag| _ = writeln!(text, "- {}", yaml(tag)));
    text + "---\n"
}

fn head(card: &Card) -> String {
    let artifact = &card.artifact;
    let name = format!("{}.{}", artifact.stage, artifact.output);
    let mut text = format!("\n# {} of the pipeline {}\n\n", code(&name), code(&card.pipeline));
    text += "Every figure here comes from the records of Kiln, or from files that have the digests which those records \
             name. What no record says is under [Gaps](#gaps).\n";
    if card.stale {
        text += "\n> **This artifact is stale:** the stage has another action key now, or one that is not known before \
                 other stages have run. `kiln why` says what changed.\n";
    }
    text
}

fn gaps(card: &Card) -> String {
    let mut by_text: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Gap { about, what } in &card.gaps {
        by_text.entry(what).or_default().insert(about);
    }
    let mut text = String::new();
    for (what, about) in by_text {
        let about = about.into_iter().map(code).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "- {about}: {}.", words(what));
    }
    text + "- No record says under which license this artifact may be used, what it is meant for, and where it fails: \
            whoever publishes it says so.\n"
}
