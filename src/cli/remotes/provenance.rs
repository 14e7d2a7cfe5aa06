//! `kiln provenance`.
//!
//! Purpose: the signed statements of everything that an artifact was made from, as an in-toto bundle: one DSSE
//! envelope a line, that usual tools check without Kiln.
//! Invariant: every edge is checked: what a stage read is what the statement of its producer says that it made. What
//! is not known, not signed or does not meet is a gap, and gaps are listed.
//! Must not know: how a statement is made.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cas::trust::envelope;
use crate::cas::types::Action;
use crate::cli::args::{Common, ProvenanceArgs};
use crate::cli::context::Context;
use crate::cli::printer::Printer;
use crate::cli::{CliError, Exit};
use crate::graph::Producer;
use crate::plan::types::Cause;
use crate::plan::{Plan, StageIx, key_inputs};

/// A stage with its action, as far as it is known.
struct Link<'a> {
    index: StageIx,
    name: &'a str,
    action: Option<&'a Action>,
    /// Whether it has a record, which no trusted key has signed although that is required.
    is_untrusted: bool,
}

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; nothing is known of the stage.
pub fn run(common: &Common, args: &ProvenanceArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, names) = args.pipeline.split();
    let [stage] = names else {
        return Err(CliError::Call("`kiln provenance` takes one stage: kiln provenance [FILE] STAGE".into()));
    };
    let context = Context::open(common, &args.pipeline)?;
    let _in_use = context.store.share_if_there()?;
    let plan = context.plan(std::slice::from_ref(stage), &[])?;
    let links: Vec<_> = plan
        .stages
        .iter()
        .map(|planned| link(planned.stage, &plan))
        .collect::<Option<_>>()
        .unwrap_or_default();
    if links.iter().all(|link| link.action.is_none() && !link.is_untrusted) {
        let message = format!("nothing is known of `{stage}` here; `kiln run {stage}` makes it");
        return Err(CliError::Failed(message));
    }
    let gaps = gaps(&context, &links);
    let envelopes: Vec<Value> = links.iter().filter_map(|link| Some(envelope(link.action?))).collect();
    if args.pipeline.json {
        let signed_by = |link: &Link<'_>| Some(context.store.trust().signed_by(link.action?)?.to_owned());
        let stages: Vec<_> = links
            .iter()
            .map(|link| json!({ "name": link.name, "key": link.action.map(|a| a.key), "signed_by": signed_by(link) }))
            .collect();
        printer.json(&json!({
            "schema": "kiln.provenance/1", "stage": stage, "stages": stages, "gaps": gaps, "envelopes": envelopes,
        }))?;
    } else {
        envelopes.iter().for_each(|envelope| printer.line(envelope.to_string()));
        gaps.iter().for_each(|gap| tracing::warn!("gap: {gap}"));
    }
    Ok(if gaps.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn link(index: StageIx, plan: &Plan) -> Option<Link<'_>> {
    let planned = plan.stages.iter().find(|planned| planned.stage == index)?;
    let action = planned.last.as_deref().filter(|action| Some(action.key) == planned.key);
    let is_untrusted = planned.reasons.iter().any(|reason| reason.cause == Cause::Untrusted);
    Some(Link { index, name: &planned.name, action, is_untrusted })
}

/// What a reader of the bundle cannot check: unknown stages, missing signatures, edges that do not meet.
fn gaps(context: &Context, links: &[Link<'_>]) -> Vec<String> {
    let mut gaps = Vec::new();
    for link in links {
        if link.is_untrusted {
            let name = link.name;
            gaps.push(format!(
                "no trusted key has signed the record of `{name}`; once this machine has a key (`kiln key new`), \
                 `kiln run {name}` makes it again and signs it"
            ));
            continue;
        }
        let Some(action) = link.action else {
            gaps.push(format!("`{}` is stale or was never made, so nothing is known of it", link.name));
            continue;
        };
        if action.signatures.is_empty() {
            gaps.push(format!(
                "`{}` is not signed; `kiln key new` makes a key that signs what runs here",
                link.name
            ));
        } else if context.store.trust().signed_by(action).is_none() {
            let ids: BTreeSet<_> =
                action.signatures.iter().map(|signature| signature.keyid.as_str()).collect();
            let ids = ids.into_iter().collect::<Vec<_>>().join(", ");
            gaps.push(format!("`{}` is signed by a key that you do not trust: {ids}", link.name));
        }
        gaps.extend(edges(context, link, action, links));
    }
    gaps
}

/// The inputs of a stage that are not what its producers made.
fn edges(context: &Context, link: &Link<'_>, action: &Action, links: &[Link<'_>]) -> Vec<String> {
    let inputs = action.key_inputs.value();
    let mut gaps = Vec::new();
    for input in context.graph.inputs(link.index) {
        let Producer::Stage { index, output } = input.from else { continue };
        let producer = links.iter().find(|other| other.index == index).and_then(|other| other.action);
        let made = producer.and_then(|producer| producer.outputs.get(&output.name)).map(key_inputs::artifact);
        let read = inputs.get("inputs").and_then(|inputs| inputs.get(input.name)).and_then(Value::as_str);
        if made.is_some() && made.as_deref() != read {
            let name = context.graph.stage(index).name.value.as_str();
            gaps.push(format!("`{}` read other bytes than `{name}.{}` has", link.name, output.name));
        }
    }
    gaps
}
