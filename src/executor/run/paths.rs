//! The wanted stages as the scheduler knows them, with the longest path from each to the end.
//!
//! Must not know: how stages run.

use std::collections::HashMap;

use crate::executor::cluster::Placement;
use crate::graph::Graph;
use crate::plan::{Plan, StageIx, StagePlan, State};
use crate::sched::types::{Slot, Wanted};

/// The stages of a plan, in its order.
pub fn wanted(
    graph: &Graph,
    plan: &Plan,
    slots: &HashMap<StageIx, Slot>,
    placement: &Placement,
) -> Vec<Wanted> {
    let slots_of = |stages: Vec<StageIx>| stages.iter().filter_map(|ix| slots.get(ix).copied()).collect();
    let mut wanted: Vec<Wanted> = Vec::with_capacity(plan.stages.len());
    for (slot, planned) in plan.stages.iter().enumerate() {
        wanted.push(Wanted {
            dependencies: slots_of(graph.dependencies(planned.stage)),
            dependents: slots_of(graph.dependents(planned.stage)),
            need: graph.stage(planned.stage).resources,
            site: placement.of.get(slot).copied().flatten(),
            critical_path: 0,
            cached: planned.state == State::Cached,
        });
    }
    // Each stage stands after all that it reads from.
    for slot in (0..wanted.len()).rev() {
        let below = wanted[slot].dependents.iter().map(|&below| wanted[below].critical_path).max();
        wanted[slot].critical_path = below.unwrap_or(0).saturating_add(milliseconds(&plan.stages[slot]));
    }
    wanted
}

/// How long a stage may take: as long as the last time, else a second.
fn milliseconds(planned: &StagePlan) -> u64 {
    let last = planned.last.as_ref().map(|action| action.provenance.seconds);
    let seconds = last.filter(|seconds| seconds.is_finite() && *seconds >= 0.0).unwrap_or(1.0);
    (seconds * 1e3) as u64
}
