//! What the driver receives, without secrets, and how it asks the planner.
//!
//! Must not know: what the driver does about it.

use std::collections::BTreeMap;

use tokio::sync::mpsc::UnboundedSender;

use crate::cas::remote::FetchError;
use crate::cas::types::ArtifactRef;
use crate::executor::context::RunContext;
use crate::executor::job::StageEnd;
use crate::executor::log::Masks;
use crate::graph::Producer;
use crate::plan::{Decision, PlanError, StageIx};
use crate::sched::StageEvent;
use crate::sched::types::Slot;

/// What the driver receives.
#[derive(Debug)]
pub enum Message {
    /// The planner's answers.
    Decided(Vec<(Slot, u32, Result<Decided, PlanError>)>),
    /// The outputs of a stage that a remote has were fetched, or could not be.
    Fetched(Slot, Result<(), FetchError>),
    /// An event of a stage.
    Stage(Slot, StageEvent),
    /// The process of a stage has ended well.
    ProcessEnded(Slot),
    /// The work on a stage has ended.
    Ended(Slot, StageEnd),
    /// The other runner has let go of the lock of a stage.
    HolderGone(Slot),
    /// The user has said what becomes of the jobs that are on a cluster.
    Answer(Answer),
    /// The user or the system asks to stop.
    Signal,
}

/// What the user says of jobs when the run is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// They go on without the run.
    Leave,
    /// They are cancelled.
    Cancel,
    /// The run goes on, and they do, too.
    Follow,
    /// Something that is no answer.
    Unclear,
}

impl Answer {
    /// What a line means. The end of the input leaves the jobs alone.
    pub fn of(line: &str) -> Self {
        match line.trim().to_ascii_lowercase().as_str() {
            "" | "d" | "detach" => Self::Leave,
            "c" | "cancel" => Self::Cancel,
            "f" | "follow" => Self::Follow,
            _ => Self::Unclear,
        }
    }
}

/// A decision, and the inputs that it is about.
#[derive(Debug)]
pub struct Decided {
    /// Its inputs by name.
    pub inputs: BTreeMap<String, ArtifactRef>,
    /// What is to be done.
    pub decision: Decision,
}

/// An event without secrets: a path or the name of a process may hold one as well as a line of a log.
pub fn masked(event: StageEvent, masks: &Masks) -> StageEvent {
    match event {
        StageEvent::Retry { attempt, error, after } => {
            StageEvent::Retry { attempt, error: masks.text(error), after }
        }
        StageEvent::Note { message } => StageEvent::Note { message: masks.text(message) },
        other => other,
    }
}

/// A stage to decide on, with its slot, the number of the question and the inputs that other stages have made.
pub type Question = (Slot, u32, StageIx, BTreeMap<String, ArtifactRef>);

/// Decides on stages and sends the answers in groups, none of which holds back a stage that can start. Blocks
/// on the disk.
pub fn decide_all(context: &RunContext, questions: Vec<Question>, sender: &UnboundedSender<Message>) {
    let (mut answers, mut inputs) = (Vec::new(), Vec::with_capacity(questions.len()));
    for (.., index, made) in &questions {
        inputs.push(all_inputs(context, *index, made.clone()));
    }
    // One round of requests for all of them. An error is that of the stage, below.
    let known =
        questions.iter().zip(&inputs).filter_map(|(q, inputs)| Some((q.2, inputs.as_ref().ok()?.clone())));
    if context.store.remotes().is_some()
        && let Err(error) = context.planner.look_ahead(&known.collect::<Vec<_>>())
    {
        tracing::debug!("the remotes were not asked: {error}");
    }
    for ((slot, epoch, index, _), inputs) in questions.into_iter().zip(inputs) {
        let answer = inputs.and_then(|inputs| {
            let decision = context.planner.decide(index, &inputs)?;
            Ok(Decided { inputs, decision })
        });
        let is_cached = matches!(answer, Ok(Decided { decision: Decision::Cached { .. }, .. }));
        answers.push((slot, epoch, answer));
        if !is_cached && sender.send(Message::Decided(std::mem::take(&mut answers))).is_err() {
            return;
        }
    }
    let _ = sender.send(Message::Decided(answers));
}

/// The inputs of a stage: those that other stages have made, and its sources.
fn all_inputs(
    context: &RunContext,
    index: StageIx,
    mut inputs: BTreeMap<String, ArtifactRef>,
) -> Result<BTreeMap<String, ArtifactRef>, PlanError> {
    for input in context.graph.inputs(index) {
        if let Producer::Source(name) = input.from {
            inputs.insert(input.name.to_owned(), context.planner.sources().source(name)?);
        }
    }
    Ok(inputs)
}
