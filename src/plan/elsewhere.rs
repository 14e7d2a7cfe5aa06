//! What remotes have.
//!
//! Purpose: ask the remotes for the actions of many stages at once, and remember the answers.
//! Invariant: a key is asked for once in a planner's life. What could not be fetched is not there, so that its stage
//! runs.
//! Must not know: how a remote is reached, how artifacts are fetched.

use std::collections::{BTreeMap, HashMap};

use crate::cas::remote::{Found, Remotes};
use crate::cas::types::ArtifactRef;
use crate::cas::unpoisoned;
use crate::digest::Digest;
use crate::plan::PlanError;
use crate::plan::key_inputs::key;
use crate::plan::planner::{Known, Planner};
use crate::plan::types::StageIx;
use crate::spec::types::Stage;

impl Planner {
    /// Asks the remotes for the actions of stages that the local store does not have, all in one round. Stages
    /// whose inputs are not all known are left out.
    ///
    /// # Errors
    /// As [`Self::decide`].
    pub fn look_ahead(&self, stages: &[(StageIx, BTreeMap<String, ArtifactRef>)]) -> Result<(), PlanError> {
        let Some(remotes) = self.store.remotes() else { return Ok(()) };
        let mut keys = Vec::new();
        for (stage, inputs) in stages {
            let spec = self.graph.stage(*stage);
            let all_known = spec.inputs.keys().all(|name| inputs.contains_key(name));
            if all_known && !self.settings.forced.contains(&spec.name.value) {
                let key = key(&self.key_inputs(*stage, inputs.clone())?);
                if !matches!(self.known(spec, &key)?, Known::Here(_)) {
                    keys.push(key);
                }
            }
        }
        self.ask(remotes, keys);
        Ok(())
    }

    /// Asks the remotes for the last actions of stages that are neither fresh nor here, all in one round: what changed
    /// since then is why a stage runs.
    ///
    /// # Errors
    /// The store fails.
    pub(super) fn look_back(&self, stages: &[StageIx]) -> Result<(), PlanError> {
        let Some(remotes) = self.store.remotes() else { return Ok(()) };
        let mut keys = Vec::new();
        for stage in stages {
            let last = self.last_keys.get(&self.graph.stage(*stage).name.value);
            if let Some(key) = last.filter(|key| !unpoisoned(&self.elsewhere).contains_key(*key))
                && self.store.action(key)?.is_none()
            {
                keys.push(*key);
            }
        }
        self.ask(remotes, keys);
        Ok(())
    }

    fn ask(&self, remotes: &Remotes, mut keys: Vec<Digest>) {
        keys.retain(|key| !unpoisoned(&self.elsewhere).contains_key(key));
        let found = remotes.lookup(&keys, self.store.trust());
        unpoisoned(&self.elsewhere).extend(keys.into_iter().zip(found));
    }

    /// The action of a key in a remote, if it has all outputs of the stage, and no others: whoever wrote it does not
    /// decide what is fetched.
    pub fn elsewhere(&self, stage: &Stage, key: &Digest) -> Option<Found> {
        let remotes = self.store.remotes()?;
        let known = unpoisoned(&self.elsewhere).get(key).cloned();
        let found = match known {
            Some(found) => found,
            None => {
                let found = remotes.lookup(&[*key], self.store.trust()).pop().flatten();
                unpoisoned(&self.elsewhere).entry(*key).or_insert(found).clone()
            }
        };
        let outputs = |found: &Found| {
            let all = stage.outputs.iter().all(|port| found.action.outputs.contains_key(&port.name));
            all && found.action.outputs.len() == stage.outputs.len()
        };
        found.filter(outputs)
    }

    /// Has the remotes asked again for a key.
    pub fn forget_answer(&self, key: &Digest) {
        unpoisoned(&self.elsewhere).remove(key);
    }

    /// Has a key count as unknown to the remotes from now on: they did not give what its action names.
    pub fn forget_elsewhere(&self, key: &Digest) {
        unpoisoned(&self.elsewhere).insert(*key, None);
        unpoisoned(&self.lost).insert(*key);
    }

    /// Whether a remote did not give what its action of this key names.
    pub fn was_lost_elsewhere(&self, key: &Digest) -> bool {
        unpoisoned(&self.lost).contains(key)
    }

    /// The bytes of an action's outputs that are not here; of a folder all, or none.
    pub(super) fn bytes_to_fetch(&self, found: &Found) -> Result<u64, PlanError> {
        let mut bytes = 0_u64;
        for output in found.action.outputs.values() {
            if !self.store.is_intact(output)? {
                bytes = bytes.saturating_add(output.size);
            }
        }
        Ok(bytes)
    }

    /// The stages in groups that do not read from each other, for which one round of lookups is enough. Without
    /// remotes they are one group in the given order.
    pub(super) fn levels(&self, stages: &[StageIx]) -> Vec<Vec<StageIx>> {
        if self.store.remotes().is_none() {
            return vec![stages.to_vec()];
        }
        let mut depths: HashMap<StageIx, usize> = HashMap::new();
        let mut levels: Vec<Vec<StageIx>> = Vec::new();
        for &stage in stages {
            let above = self.graph.dependencies(stage);
            let depth = above.iter().filter_map(|above| depths.get(above)).max().map_or(0, |depth| depth + 1);
            depths.insert(stage, depth);
            levels.resize_with(levels.len().max(depth + 1), Vec::new);
            levels[depth].push(stage);
        }
        levels
    }
}
