//! What is read of damaged stores and remotes.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::super::*;
use super::harm::Harm;
use super::world::{Kind, Made, World, bytes_at, remotes_at, send};
use crate::cas::care::Checked;
use crate::cas::disk::remove_tree;
use crate::cas::remote::{FetchError, Sending};

/// The cases that `cargo test` takes.
const CASES: u64 = 200;
/// Those of `make soak-shared`.
const MANY_CASES: u64 = 10_000;

#[test]
fn damaged_bytes_are_never_served_and_all_of_them_are_found_and_repaired() {
    damage(CASES);
}

#[test]
#[ignore = "takes minutes: 10,000 cases"]
fn damaged_bytes_are_never_served_in_many_cases() {
    damage(MANY_CASES);
}

fn damage(cases: u64) {
    let world = World::new();
    let (mut harmless, mut hit) = (0, BTreeSet::new());
    for seed in 0..cases {
        let mut rng = Rng::with_seed(seed);
        let is_remote = rng.bool();
        let harms = world.choose_harm(&mut rng, is_remote);
        // A test that fails shows the last line.
        println!("case {seed}: {}", world.describe(&harms));
        harmless += u64::from(harms.is_empty());
        hit.extend(harms.iter().map(|harm| harm.victim));
        if is_remote {
            world.check_remote(&harms, &mut rng);
        } else {
            world.check_local(&harms, &mut rng);
        }
    }
    assert!(harmless < cases / 20, "{harmless} of {cases} cases changed nothing");
    assert_eq!(hit.len(), world.victims.len(), "every file was damaged at least once");
}

impl World {
    fn check_local(&self, harms: &[Harm], rng: &mut Rng) {
        // What the disk does to bytes leaves the stat of the file as it was recorded.
        let rot = rng.u8(..4) == 0;
        self.apply(harms, rot);
        let store = self.open();
        if rot {
            self.record_stats(&store, harms);
            self.check_readers_of_bytes(&store, harms, rng);
        } else if rng.bool() {
            self.check_served(&store, &self.touched(harms), rng);
        } else {
            self.check_fetched(harms, rng);
        }
        drop(store);
        self.restore(harms);
        match rng.u8(..4) {
            0 => [false, true].map(|with_remote| self.check_fsck(harms, rot, with_remote)),
            n => [self.check_fsck(harms, rot, n > 1), ()],
        };
    }

    /// The results that are made from what was harmed, and another one.
    fn touched(&self, harms: &[Harm]) -> Vec<&Made> {
        let victims = harms.iter().map(|harm| &self.victims[harm.victim]);
        let mut touched: BTreeSet<usize> = victims.flat_map(|victim| victim.results.clone()).collect();
        touched.insert(0);
        touched.into_iter().map(|n| &self.made[n]).collect()
    }

    /// What a store gives is what was made, or nothing.
    fn check_served(&self, store: &Store, made: &[&Made], rng: &mut Rng) -> usize {
        let mut served = 0;
        for Made { action, outputs } in made {
            if let Some(known) = store.action(&action.key).unwrap() {
                assert_eq!(known, *action);
            }
            let _ = store.previous_action(&action.key).unwrap();
            for (name, artifact) in &action.outputs {
                if rng.bool() {
                    // What is said to be intact can be read.
                    let (is_intact, dest) = (store.is_intact(artifact).unwrap(), self.path("dest"));
                    let how = if rng.bool() { How::Copies } else { How::Links };
                    match store.materialize(artifact, &dest, how) {
                        Ok(()) => {
                            assert!(bytes_at(&dest) == outputs[name], "other bytes of {name} were served")
                        }
                        Err(StoreError::NotIntact(_)) => assert!(!is_intact, "{name} was said to be intact"),
                        Err(error) => panic!("{error}"),
                    }
                    served += usize::from(is_intact);
                    remove_tree(&dest).unwrap();
                } else if store.export(artifact, &self.path("dest")).is_ok() {
                    assert!(
                        bytes_at(&self.path("dest")) == outputs[name],
                        "other bytes of {name} were exported"
                    );
                    served += 1;
                    remove_tree(&self.path("dest")).unwrap();
                }
            }
        }
        served
    }

    /// A damaged store with a sound remote has everything after a fetch.
    fn check_fetched(&self, harms: &[Harm], rng: &mut Rng) {
        let (store, touched) = (self.open_shared(), self.touched(harms));
        for Made { action, .. } in &touched {
            store.fetch(&outputs(action), &action.inputs()).unwrap();
        }
        let all: usize = touched.iter().map(|made| made.outputs.len()).sum();
        assert_eq!(self.check_served(&store, &touched, rng), all);
    }

    /// Whoever reads every byte finds what rotted under a stat that did not change: who reads a blob, who sends one,
    /// and who takes pieces of it.
    fn check_readers_of_bytes(&self, store: &Store, harms: &[Harm], rng: &mut Rng) {
        for victim in harms.iter().map(|harm| &self.victims[harm.victim]) {
            let Kind::Blob(digest) = victim.kind else { continue };
            assert!(matches!(store.read(&digest, u64::MAX >> 1), Err(StoreError::NotIntact(_))));
        }
        // Reading has put it aside; once more.
        self.restore(harms);
        self.apply(harms, true);
        let store = Arc::new(self.open());
        self.record_stats(&store, harms);
        for Made { action, .. } in self.touched(harms) {
            let elsewhere = self.path("elsewhere");
            let sent = send(&remotes_at(&elsewhere), &store, action, Sending::default());
            let reader = self.open_at("reader");
            reader.share_with(remotes_at(&elsewhere));
            let fetched = reader.fetch(&outputs(action), &action.inputs());
            assert!(sent.is_err() || fetched.is_ok(), "what was sent can be fetched: {fetched:?}");
            self.check_served(&reader, &[self.made_by(action)], rng);
            drop(reader);
            remove_tree(&elsewhere).unwrap();
            remove_tree(&self.path("reader")).unwrap();
        }
        self.check_pieces_of_rotten_files(&store, harms);
    }

    fn made_by(&self, action: &Action) -> &Made {
        self.made.iter().find(|made| made.action.key == action.key).unwrap()
    }

    /// A large file that is put together from what is here has the right bytes, also when those here are not.
    fn check_pieces_of_rotten_files(&self, store: &Store, harms: &[Harm]) {
        let tuned = self.made.iter().find(|made| made.outputs.contains_key("tuned")).unwrap();
        let (large, near) = (tuned.action.outputs["tuned"], tuned.action.inputs());
        let rotted: Vec<_> = harms.iter().map(|harm| self.victims[harm.victim].kind).collect();
        if !near.iter().any(|near| rotted.contains(&Kind::Blob(near.digest))) {
            return;
        }
        fs::remove_file(store.blob(&large.digest)).unwrap();
        self.remotes().fetch(store, &[large], &near).unwrap();
        assert!(fs::read(store.blob(&large.digest)).unwrap() == tuned.outputs["tuned"][""]);
    }

    /// `fsck` finds what was harmed and nothing else, and repairs it from the remote.
    fn check_fsck(&self, harms: &[Harm], rot: bool, with_remote: bool) {
        self.apply(harms, rot);
        let store = if with_remote { self.open_shared() } else { self.open() };
        self.record_stats(&store, if rot { harms } else { &[] });
        let checked = store.fsck(&mut |_| {});
        drop(store);
        for harm in harms {
            self.check_found(harm, &checked, with_remote);
        }
        let harmed: BTreeSet<_> = harms.iter().map(|harm| harm.victim).collect();
        for (n, victim) in self.victims.iter().enumerate().filter(|(_, victim)| !victim.is_remote) {
            let is_same = fs::read(&victim.path).is_ok_and(|bytes| bytes == victim.bytes);
            let may_change = victim.kind == Kind::Index || harmed.contains(&n);
            assert!(is_same || may_change, "{} is another one", victim.path.display());
        }
        self.restore(harms);
    }

    fn check_found(&self, harm: &Harm, checked: &Result<Checked, StoreError>, with_remote: bool) {
        let victim = &self.victims[harm.victim];
        if victim.kind == Kind::Format {
            // One of a lower number is an older one.
            let text = fs::read_to_string(&victim.path).unwrap_or_default();
            let is_older =
                text.trim().strip_prefix("kiln.store/").is_some_and(|n| ["0", "1", "2"].contains(&n));
            let is_refused = matches!(checked, Err(StoreError::NewerFormat { .. }));
            return assert!(is_refused || is_older, "{text:?}: {checked:?}");
        }
        let checked = checked.as_ref().unwrap();
        let repaired = with_remote && !victim.results.is_empty();
        let found = match victim.kind {
            Kind::Blob(digest) => checked.damaged_blobs.contains(&digest),
            Kind::Action(key) | Kind::Previous(key) => checked.damaged_actions.contains(&key),
            // The one is made anew by whoever meets it, the other is a text for git.
            Kind::Index | Kind::Mark => return assert!(checked.is_sound()),
            Kind::Format | Kind::Piece(_) => unreachable!(),
        };
        assert_eq!(found, !repaired, "{checked:?}");
        match repaired {
            true => {
                assert!(fs::read(&victim.path).unwrap() == victim.bytes, "it was not repaired: {checked:?}")
            }
            false => assert!(!victim.path.exists(), "what is damaged stays in its place"),
        }
    }

    fn check_remote(&self, harms: &[Harm], rng: &mut Rng) {
        self.apply(harms, false);
        let touched = self.touched(harms);
        for Made { action, .. } in &touched {
            let found = self.remotes().lookup(&[action.key], &crate::cas::trust::TrustPolicy::default());
            assert!(found[0].as_ref().is_none_or(|found| *found.action == *action));
        }
        self.check_reader(&touched, rng);
        match rng.u8(..8) {
            0 => self.check_both_damaged(rng),
            1 => self.check_healing(harms, rng),
            _ => {}
        }
        self.restore(harms);
    }

    /// Somebody who has nothing fetches: what comes is right, and what does not come is missing.
    fn check_reader(&self, touched: &[&Made], rng: &mut Rng) {
        let reader = self.open_at("reader");
        reader.share_with(self.remotes());
        for made in touched {
            let fetched = reader.fetch(&outputs(&made.action), &made.action.inputs());
            assert!(matches!(fetched, Ok(_) | Err(FetchError::Missing(_))), "{fetched:?}");
            let served = self.check_served(&reader, &[made], rng);
            assert!(fetched.is_err() || served == made.outputs.len(), "what was fetched is there");
        }
        drop(reader);
        remove_tree(&self.path("reader")).unwrap();
    }

    /// A store is damaged, too: what cannot be repaired is said, and nothing wrong takes a name.
    fn check_both_damaged(&self, rng: &mut Rng) {
        let harms = self.choose_harm(rng, false);
        println!("  and {}", self.describe(&harms));
        self.apply(&harms, false);
        let _ = self.open_shared().fsck(&mut |_| {});
        for victim in harms.iter().map(|harm| &self.victims[harm.victim]) {
            if let (Kind::Blob(_) | Kind::Action(_), Ok(bytes)) = (victim.kind, fs::read(&victim.path)) {
                assert!(bytes == victim.bytes, "{} has other bytes", victim.path.display());
            }
        }
        self.restore(&harms);
    }

    /// What is sent again, as after a run that found the damage, replaces it.
    fn check_healing(&self, harms: &[Harm], rng: &mut Rng) {
        let (store, touched) = (Arc::new(self.open()), self.touched(harms));
        let how = Sending { replace: true, resend: true };
        for made in &touched {
            match send(&self.remotes(), &store, &made.action, how) {
                Ok(_) => self.check_reader(&[made], rng),
                Err(error) => assert!(error.contains("has the format"), "{error}"),
            }
        }
    }
}

fn outputs(action: &Action) -> Vec<ArtifactRef> {
    action.outputs.values().copied().collect()
}
