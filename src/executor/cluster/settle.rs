//! Jobs that came to their end while no runner was there.
//!
//! Purpose: what such a job has said (its log, its metrics) becomes a part of the run that finds its result, and the job is
//! forgotten.
//! Invariant: only the job of a key whose result is known is forgotten here; one that somebody follows is left to them.
//! Must not know: how a job is followed.

use std::collections::HashMap;
use std::sync::Arc;

use super::end;
use super::intent::{self, Intent};
use super::mail::Mail;
use super::outbox::{self, Said};
use crate::executor::blocking;
use crate::executor::context::RunContext;
use crate::executor::log::Log;
use crate::plan::{Plan, State};
use crate::sched::{Event, StageEvent};
use crate::state::Lock;

/// Takes over what the jobs have said whose results the plan found.
pub async fn settle(context: &Arc<RunContext>, plan: &Plan) -> Vec<Event> {
    let known = plan.stages.iter().filter(|planned| matches!(planned.state, State::Cached | State::Fetch));
    let names: HashMap<_, _> =
        known.filter_map(|planned| Some((planned.key?, planned.name.clone()))).collect();
    blocking(context, move |context| {
        let mut events = Vec::new();
        for intent in intent::all(&context.store) {
            let Some(stage) = names.get(&intent.key) else { continue };
            let lock = context.store.try_lock(&intent::lock(&intent.key), stage);
            if let Ok(Lock::Acquired(_lock)) = lock {
                take_over(context, stage, &intent, &mut events);
            }
        }
        events
    })
    .await
}

/// A job that has not said its end is left alone: it may be about to say something.
fn take_over(context: &RunContext, stage: &str, intent: &Intent, events: &mut Vec<Event>) {
    let mail = match &intent.remote {
        Some(remote) => Mail::in_remote(Arc::clone(&context.store), remote, &intent.key),
        None => Mail::in_store(&context.store, &intent.key),
    };
    if !matches!(end::read(&mail, &intent.submission), Ok(Some(_))) {
        return;
    }
    let Ok(log) = Log::open(&context.run.log_path(stage)) else { return };
    let read = outbox::read_all(&mail, &intent.submission, &mut |said| match said {
        Said::Log(text) => outbox::lines(&text).for_each(|line| log.line(line.as_bytes())),
        // How far it was, nobody wants to know any more.
        Said::Event(StageEvent::Progress { .. } | StageEvent::Started { .. }) => {}
        Said::Event(event) => events.push(Event::Stage { stage: stage.to_owned(), event }),
    });
    if let Err(error) = read {
        tracing::debug!("what a job said was not taken over: {error}");
    }
    let removed = if mail.is_remote() { mail.remove(&[]).map_err(|e| e.to_string()) } else { Ok(()) };
    let forgotten =
        removed.and_then(|()| intent::forget(&context.store, &intent.key).map_err(|e| e.to_string()));
    if let Err(error) = forgotten {
        tracing::debug!("a job was not forgotten: {error}");
    }
}
