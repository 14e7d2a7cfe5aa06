//! Which run made a result.
//!
//! Purpose: name the run of an action for people, and say so if it is a run of another store.
//! Invariant: a run of this store that has the id of somebody else's is not taken for it.
//! Must not know: what was made.

use super::metrics::maker;
use crate::cas::Store;
use crate::cas::types::Action;
use crate::report::text::{printable, time};

/// The run that made an action, as `by run r-0003 (today 12:00)`.
pub fn origin(store: &Store, action: &Action) -> String {
    let provenance = &action.provenance;
    let record = store.history().read(&provenance.run).ok().flatten();
    let is_ours = record.is_some_and(|run| match run.stages.is_empty() {
        // A run that was killed, or goes on, says nothing of its stages. It was first when it began.
        true => run.started <= provenance.started,
        false => maker(&run.stages, action).is_some(),
    });
    let place = if is_ours { "" } else { "elsewhere, " };
    format!("{place}by run {} ({})", printable(&provenance.run), time(&provenance.started))
}
