//! One case: a random project, random actions, and what must be true afterwards.
//!
//! Purpose: everything that a case does, from its seed.
//! Invariant: a case is a function of its seed but for the scheduling of processes; what it did is in its log.
//! Must not know: how cases are counted, where the next seed comes from.

use std::fs;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::project::Project;
use crate::runs::ended_with;
use crate::world::{Fate, World};
use crate::{check, damage, edit, generate, yaml};

/// How long processes of a stage get to end after a run.
const PATIENCE: Duration = Duration::from_secs(5);

/// A case at work.
pub struct Case {
    pub rng: Rng,
    pub world: World,
    past: Vec<World>,
    pub project: Project,
    folder: TempDir,
    log: Vec<String>,
    /// Counts of what was done, for the figures.
    pub done: Vec<&'static str>,
}

/// Runs the case of a seed; gives what was done.
///
/// # Errors
/// What was wrong, with all that was done before.
pub fn run(seed: u64) -> Result<Vec<&'static str>, String> {
    let mut case = Case::new(seed);
    let outcome = case.whole();
    if outcome.is_err() || std::env::var_os("KILN_SOAK_KEEP").is_some() {
        case.folder.disable_cleanup(true);
    }
    match outcome {
        Ok(()) => Ok(case.done),
        Err(error) => Err(format!(
            "seed {seed}: {error}\n\nto replay: make soak SEED={seed} CASES=1\nfolder: {}\nactions:\n  {}\n\n{}",
            case.folder.path().display(),
            case.log.join("\n  "),
            yaml::pipeline(&case.world),
        )),
    }
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let world = generate::world(&mut rng);
        let folder = tempfile::Builder::new().prefix(&format!("kiln-soak-{seed}-")).tempdir().unwrap();
        let project = Project::new(folder.path().join("project"), &world);
        Self { rng, world, past: Vec::new(), project, folder, log: Vec::new(), done: Vec::new() }
    }

    fn whole(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.usize(4..=8) {
            self.step()?;
            check::plan(&self.project, &self.world)?;
        }
        self.settle().map_err(|e| format!("in the end: {e}"))
    }

    pub(crate) fn note(&mut self, kind: &'static str, what: String) {
        self.log.push(format!("{kind}: {what}"));
        self.done.push(kind);
    }

    fn step(&mut self) -> Result<(), String> {
        match self.rng.u8(..30) {
            0..=6 => self.edit(),
            7 => self.undo(),
            8 => self.touch(),
            9 => self.sneak(),
            10 | 11 => {
                if let Some(what) = damage::damage(&self.project, &mut self.rng) {
                    self.note("damage", what);
                }
            }
            12..=14 => return self.plain_run(),
            15 => return self.forced_run(),
            16 => return self.run_of_one(),
            17 | 18 => return self.interrupted_run(),
            19 | 20 => return self.killed_run(),
            21 => return self.run_with_a_killed_process(),
            22 => return self.two_runs(),
            23 => return self.neutral_edit(),
            24 => return self.look(),
            25 | 26 => return self.hanging_run(),
            27 | 28 => return self.run_with_a_restless_source(),
            _ => return self.run_with_an_edit(),
        }
        Ok(())
    }

    pub(crate) fn edit(&mut self) {
        self.past.push(self.world.clone());
        let what = edit::edit(&mut self.world, &mut self.rng);
        self.project.write(&self.world);
        self.note("edit", what);
    }

    /// A change that changes no key leaves cached what was cached.
    fn neutral_edit(&mut self) -> Result<(), String> {
        let before = check::plan(&self.project, &self.world)?;
        let what = edit::neutral(&mut self.world, &mut self.rng);
        self.project.write(&self.world);
        self.note("neutral edit", what);
        let after = check::plan(&self.project, &self.world)?;
        if before.len() == after.len() {
            Ok(())
        } else {
            Err(format!("cached were {before:?}, are {after:?}"))
        }
    }

    /// The commands that only look.
    fn look(&mut self) -> Result<(), String> {
        let at = self.rng.usize(..self.world.stages.len());
        let name = self.world.stages[at].name.clone();
        let words: &[&str] = match self.rng.u8(..4) {
            0 => &["status", "--json"],
            1 => &["why", &name],
            2 => &["log"],
            _ => &["show", &name],
        };
        self.note("look", words.join(" "));
        if words[0] == "show" {
            return check::show(&self.project, &self.world, &name);
        }
        ended_with(&self.project.kiln(words)?, &[0, 1, 2])
    }

    fn undo(&mut self) {
        if self.past.is_empty() {
            return self.edit();
        }
        let at = self.rng.usize(..self.past.len());
        self.world = self.past[at].clone();
        self.project.write(&self.world);
        self.note("undo", format!("back to world {at}"));
    }

    fn touch(&mut self) {
        let Some(path) = edit::pick_source_file(&self.world, &mut self.rng) else { return };
        if let Some(what) = damage::touch(&self.project.root().join(path), &mut self.rng) {
            self.note("touch", what);
        }
    }

    /// An edit of the same length whose time of modification is put back.
    fn sneak(&mut self) {
        let Some(path) = edit::pick_source_file(&self.world, &mut self.rng) else { return };
        let leaf = self.world.files.get_mut(&path).unwrap();
        let swap = |c| {
            if c == 'a' {
                'b'
            } else if c == 'b' {
                'a'
            } else {
                c
            }
        };
        leaf.text = leaf.text.chars().map(swap).collect();
        damage::rewrite(&self.project.root().join(&path), leaf.text.as_bytes(), true);
        self.project.write_seen(&self.world);
        self.note("sneak", path);
    }

    /// Whether a stage is meant to fail.
    pub(crate) fn fails(&self) -> bool {
        self.world.evaluate().values().any(|fate| *fate == Fate::Fails)
    }

    /// A plain run makes good whatever was before.
    fn settle(&mut self) -> Result<(), String> {
        self.log.push("in the end: run --keep-going".to_owned());
        let answer = self.project.kiln(&["run", "--keep-going"])?;
        ended_with(&answer, if self.fails() { &[1] } else { &[0] })?;
        all_that_can_be(&self.project, &self.world)?;
        check::links(&self.project, &self.world)?;
        let second = self.project.json(&["run", "--keep-going"])?;
        runs_nothing(&second)?;
        self.nothing_is_left()?;
        if self.rng.u8(..4) == 0 {
            self.copied_project().map_err(|e| format!("in a copy of the project: {e}"))?;
        }
        let other = Project::new(self.folder.path().join("a-clean-one"), &self.world);
        let answer = other.kiln(&["run", "--jobs", "1", "--keep-going"])?;
        ended_with(&answer, if self.fails() { &[1] } else { &[0] })
            .map_err(|e| format!("a clean run: {e}"))?;
        all_that_can_be(&other, &self.world).map_err(|e| format!("a clean run: {e}"))
    }

    /// A copy of the project, with its store, knows all that the project knows, and leads nowhere else.
    fn copied_project(&mut self) -> Result<(), String> {
        self.log.push("copy the project, and run --keep-going there".to_owned());
        let copy = self.project.copy(&self.folder.path().join("a copy"));
        let answer = copy.json(&["run", "--keep-going"])?;
        runs_nothing(&answer)?;
        all_that_can_be(&copy, &self.world)?;
        // Where every stage fails there are none.
        let _ = fs::remove_dir_all(self.project.store().join("blobs"));
        check::links(&copy, &self.world)
    }

    /// Neither processes nor scratch folders.
    fn nothing_is_left(&mut self) -> Result<(), String> {
        let left = |case: &Self, patience| {
            let processes = case.project.processes_after(patience);
            let processes = processes.into_iter().map(|(pid, line)| format!("process {pid}: {line}"));
            processes.chain(check::scratch(&case.project)).collect::<Vec<_>>()
        };
        if self.fails() {
            // What a refused output was is kept for inspection, but nothing is alive.
            let processes = self.project.processes_after(PATIENCE);
            return if processes.is_empty() { Ok(()) } else { Err(format!("these are left: {processes:?}")) };
        }
        if left(self, Duration::from_millis(50)).is_empty() {
            return Ok(());
        }
        // A run in which everything is cached looks for nothing to remove; the next one that runs does.
        let name = self.world.stages[0].name.clone();
        self.log.push(format!("to have it swept: run --force {name}"));
        let answer = self.project.kiln(&["run", "--force", &name])?;
        ended_with(&answer, &[0])?;
        match left(self, PATIENCE) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("this is left: {left:#?}")),
        }
    }
}

fn runs_nothing(answer: &Value) -> Result<(), String> {
    let stages = answer["stages"].as_array().ok_or_else(|| format!("no answer: {answer}"))?;
    match stages.iter().find(|stage| stage["outcome"] == "ran") {
        Some(stage) => Err(format!("a second run runs {}", stage["name"])),
        None => Ok(()),
    }
}

/// Every stage that can be made is cached and has the bytes that it should have.
fn all_that_can_be(project: &Project, world: &World) -> Result<(), String> {
    let cached = check::plan(project, world)?;
    for (name, fate) in world.evaluate() {
        if matches!(fate, Fate::Made(_)) && !cached.contains(&name) {
            return Err(format!("{name} is not cached after a run: {cached:?}"));
        }
    }
    Ok(())
}
