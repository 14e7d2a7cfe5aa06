//! The records that led to an artifact.
//!
//! Purpose: walk from the record of an artifact to those of the stages above it, by the digests that each record read.
//! Invariant: a record belongs to the lineage only if it made the very bytes that a record of the lineage read. What is
//! not known is a gap and is never guessed.
//! Must not know: how records are shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::facts::{Gap, Input, Made};
use crate::cas::trust::TrustPolicy;
use crate::cas::types::Action;
use crate::digest::untag_integers;
use crate::graph::{Graph, Producer};
use crate::plan::{Plan, StageIx, key_inputs};

/// The most keys of one record that are named.
const MOST_KEYIDS: usize = 16;

/// The known records of a lineage.
pub struct Records<'a> {
    /// The stages of the lineage, each after those that it reads from.
    pub stages: Vec<StageIx>,
    /// The records by stage.
    pub known: BTreeMap<StageIx, &'a Action>,
    /// The digests that known records read of a stage's outputs, as key inputs have them.
    pub read: BTreeMap<(StageIx, String), BTreeSet<String>>,
}

impl<'a> Records<'a> {
    /// Walks up from the record of a stage, the last of `stages`, which are all that it needs.
    pub fn walk(
        graph: &Graph,
        plan: &'a Plan,
        stages: Vec<StageIx>,
        of: StageIx,
        action: &'a Action,
        gaps: &mut Vec<Gap>,
    ) -> Self {
        let last: HashMap<_, _> =
            plan.stages.iter().filter_map(|stage| Some((stage.stage, stage.last.as_deref()?))).collect();
        let mut records = Self { stages, known: BTreeMap::from([(of, action)]), read: BTreeMap::new() };
        // Whoever reads a stage comes before it.
        for index in records.stages.clone().into_iter().rev() {
            match records.known.get(&index).copied() {
                Some(action) => records.up(graph, &last, index, action, gaps),
                None => gaps.push(records.unknown(graph, &last, index)),
            }
        }
        gaps.extend(records.unmet(graph));
        records
    }

    /// Finds the records of the stages that a stage reads.
    fn up(
        &mut self,
        graph: &Graph,
        last: &HashMap<StageIx, &'a Action>,
        index: StageIx,
        action: &'a Action,
        gaps: &mut Vec<Gap>,
    ) {
        let name = graph.stage(index).name.value.as_str();
        let mut inputs = inputs(action);
        for input in graph.inputs(index) {
            let Some(digest) = inputs.remove(input.name) else {
                let what = format!("the record read no input {}, which the pipeline names now", input.name);
                gaps.push(Gap::new(name, what));
                continue;
            };
            let Producer::Stage { index: from, output } = input.from else { continue };
            if let Some(made) = last.get(&from).filter(|made| made_it(made, &output.name, &digest)) {
                self.known.insert(from, made);
            }
            self.read.entry((from, output.name.clone())).or_default().insert(digest);
        }
        let more =
            inputs.keys().map(|input| format!("the record read {input}, which the pipeline no longer names"));
        gaps.extend(more.map(|what| Gap::new(name, what)));
    }

    /// The stages of which records of the lineage read other bytes than their own record made.
    fn unmet(&self, graph: &Graph) -> Vec<Gap> {
        let unmet = self.read.iter().filter(|((index, output), digests)| {
            let known = self.known.get(index);
            known.is_some_and(|action| digests.iter().any(|digest| !made_it(action, output, digest)))
        });
        let gap = |((index, output), _): (&(StageIx, String), _)| {
            let what =
                format!("a record of the lineage read other bytes as its {output} than its record made");
            Gap::new(graph.stage(*index).name.value.as_str(), what)
        };
        unmet.map(gap).collect()
    }

    fn unknown(&self, graph: &Graph, last: &HashMap<StageIx, &'a Action>, index: StageIx) -> Gap {
        let was_read = self.read.keys().any(|(stage, _)| *stage == index);
        let what = match (was_read, last.contains_key(&index)) {
            (true, true) => "not known: the record that is here made other bytes than those that were read",
            (true, false) => "not known: there is no record of it here",
            (false, _) => "not known: the records of the stages that read it are not known",
        };
        Gap::new(graph.stage(index).name.value.as_str(), what)
    }
}

/// Whether an action made an output with this digest.
fn made_it(action: &Action, output: &str, digest: &str) -> bool {
    action.outputs.get(output).is_some_and(|artifact| key_inputs::artifact(artifact) == digest)
}

/// What an action read, by the name of the input.
pub fn inputs(action: &Action) -> BTreeMap<String, String> {
    texts(&action.key_inputs.value(), "inputs")
}

fn texts(key_inputs: &Value, section: &str) -> BTreeMap<String, String> {
    let entries = key_inputs[section].as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// What the record of a stage says.
pub fn made(graph: &Graph, index: StageIx, action: &Action, trust: &TrustPolicy) -> Made {
    let key_inputs = action.key_inputs.value();
    let text = |name: &str| key_inputs[name].as_str().map(str::to_owned);
    let some = |name: &str| key_inputs.get(name).cloned();
    let from: BTreeMap<_, _> =
        graph.inputs(index).into_iter().map(|i| (i.name, producer(graph, &i.from))).collect();
    let input =
        |(name, digest): (String, String)| Input { from: from.get(name.as_str()).cloned(), name, digest };
    let params = untag_integers(&key_inputs["params"]);
    let keyids: BTreeSet<_> = action.signatures.iter().take(MOST_KEYIDS).map(|s| s.keyid.clone()).collect();
    let signer = trust.signer_of(action);
    Made {
        key: action.key,
        kind: text("kind").unwrap_or_default(),
        provider: text("provider"),
        revision: some("revision"),
        program: action.provenance.provider,
        kiln: action.provenance.kiln.clone(),
        run: action.provenance.run.clone(),
        started: action.provenance.started.clone(),
        seconds: action.provenance.seconds,
        params: params.as_object().cloned().unwrap_or_default(),
        numerics: some("numerics"),
        command: some("run"),
        shell: some("shell"),
        uses: texts(&key_inputs, "uses"),
        inputs: inputs(action).into_iter().map(input).collect(),
        keyids: keyids.into_iter().collect(),
        signed_by: signer.map(|(name, _)| name.to_owned()),
        signer: signer.map(|(_, key)| key.id()),
    }
}

/// Who makes an input, as a pipeline file names it.
fn producer(graph: &Graph, from: &Producer<'_>) -> String {
    match from {
        Producer::Source(name) => (*name).to_owned(),
        Producer::Stage { index, output } => format!("{}.{}", graph.stage(*index).name.value, output.name),
    }
}
