//! One case: a kill, and what must be true afterwards.
//!
//! Purpose: everything that a case does, from its seed.
//! Invariant: a case is a function of its seed but for the scheduling of processes and threads.
//! Must not know: how cases are counted.

use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

use crate::aim::{Aim, Counts, Hit, Victim, shoot};
use crate::common::Pipeline;
use crate::common::processes::left_after;
use crate::phase::Phase;
use crate::scene::{Place, Prepared, SEEDS, Scene, digests, results};

/// How long processes of a killed run get to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a moment is sought that did not come: threads take turns as they like.
const TRIES: usize = 8;

/// What a case has hit.
pub type Met = (Scene, Phase, Victim);

/// Runs the case of a seed.
///
/// # Errors
/// What was wrong, and how to see it again.
pub fn run(seed: u64, prepared: &Prepared, counts: &Counts) -> Result<Met, String> {
    let mut rng = Rng::with_seed(seed);
    for _ in 0..TRIES {
        let aim = Aim::of(seed, counts, &mut rng);
        let mut case =
            Case { place: Place::new(aim.scene, prepared), prepared, log: Vec::new(), rng: rng.fork() };
        match case.whole(&aim) {
            Ok(true) => return Ok((aim.scene, aim.phase, aim.victim)),
            Ok(false) => {}
            Err(error) => {
                case.place.project.keep();
                let (folder, log) = (case.place.project.root().display(), case.log.join("\n  "));
                return Err(format!(
                    "seed {seed}: {error}\n\nto replay: KILN_KILLS_SEED={seed} cargo test --release --test kills -- \
                     --ignored\nfolder: {folder}\n{aim:?}\n  {log}"
                ));
            }
        }
    }
    Err(format!(
        "seed {seed}: the moment did not come in {TRIES} tries: {:?}",
        Aim::of(seed, counts, &mut rng)
    ))
}

struct Case<'a> {
    place: Place,
    prepared: &'a Prepared,
    log: Vec<String>,
    rng: Rng,
}

impl Case<'_> {
    /// Kills, and checks that all converges; false when the moment did not come.
    fn whole(&mut self, aim: &Aim) -> Result<bool, String> {
        let hit = shoot(&self.place, aim).map_err(|e| format!("the traced command: {e}"))?;
        self.log.push(format!("{hit:?}"));
        as_expected(aim, &hit)?;
        for words in self.again() {
            self.ask(words)?;
        }
        self.is_whole(0)?;
        let left = left_after(self.place.project.root(), PATIENCE);
        if !left.is_empty() {
            return Err(format!("these processes are left: {left:#?}"));
        }
        if aim.scene.shares() {
            self.remote_is_whole()?;
        }
        if aim.scene == Scene::Gc {
            self.place.project.write("seed.txt", SEEDS[1]);
            self.ask(&["run"])?;
            self.is_whole(1)?;
        }
        Ok(hit.at.is_some())
    }

    /// What a person does next. A plain run is among it each time, and it alone is enough.
    fn again(&mut self) -> Vec<&'static [&'static str]> {
        let (run, killed): (&[&str], _) = (&["run"], self.place.words());
        match (killed, self.rng.bool()) {
            (["run"], _) | (_, false) => vec![run],
            (_, true) => vec![killed, run],
        }
    }

    fn ask(&mut self, words: &[&str]) -> Result<String, String> {
        let answer = self.place.ask(&self.place.project, words);
        self.log.push(format!("kiln {}: {}", words.join(" "), answer.code));
        match answer.code {
            0 => Ok(answer.out),
            code => {
                Err(format!("`kiln {}` ended with {code}: {}{}", words.join(" "), answer.out, answer.err))
            }
        }
    }

    /// Nothing is stale, everything has the digests of an undisturbed run, and every byte is right.
    fn is_whole(&mut self, version: usize) -> Result<(), String> {
        let plan: Value = serde_json::from_str(&self.ask(&["plan", "--json"])?).map_err(|e| e.to_string())?;
        let stale = |stage: &&Value| stage["state"] != "cached" && stage["state"] != "fetch";
        if let Some(stage) = plan["stages"].as_array().into_iter().flatten().find(stale) {
            return Err(format!("after a plain run it is stale: {stage:#}"));
        }
        self.are_the_same("the plan", version, &plan)?;
        if version == 0 && results(&self.place.project) != self.prepared.results {
            return Err("the files of the results have other bytes".to_owned());
        }
        self.ask(&["fsck"]).map(drop)
    }

    fn are_the_same(&self, what: &str, version: usize, answer: &Value) -> Result<(), String> {
        let (found, expected) = (digests(answer), &self.prepared.digests[version]);
        if found == *expected {
            Ok(())
        } else {
            Err(format!("{what} has {found:#?} instead of {expected:#?}"))
        }
    }

    /// After a complete push somebody else runs nothing.
    fn remote_is_whole(&mut self) -> Result<(), String> {
        self.ask(&["push"])?;
        let other: Pipeline = self.place.elsewhere();
        let answer = self.place.ask(&other, &["run", "--json"]);
        let run: Value = serde_json::from_str(&answer.out)
            .map_err(|e| format!("a run elsewhere: {e}: {}{}", answer.out, answer.err))?;
        let fetched = |stage: &Value| stage["outcome"] == "fetched" || stage["outcome"] == "cached";
        if answer.code != 0 || !run["stages"].as_array().into_iter().flatten().all(fetched) {
            return Err(format!("elsewhere not all was fetched: {run:#}\n{}", answer.err));
        }
        self.are_the_same("a run elsewhere", 0, &run)?;
        if results(&other) == self.prepared.results {
            return Ok(());
        }
        Err("elsewhere the files of the results have other bytes".to_owned())
    }
}

/// A command that is killed has no exit code; one that lost a process ends by itself.
fn as_expected(aim: &Aim, hit: &Hit) -> Result<(), String> {
    let killed = hit.at.is_some() && aim.victim == Victim::Command;
    match (killed, hit.code) {
        (true, None) | (false, Some(0)) => Ok(()),
        (false, Some(1)) if aim.victim != Victim::Command => Ok(()),
        _ => Err(format!("the command ended with {:?}", hit.code)),
    }
}
