//! Runs of all sorts, and what is done to them.
//!
//! Purpose: start runners, stop and kill them and their processes at moments that come from the seed.
//! Invariant: a run that nobody disturbs ends as the world says.
//! Must not know: which runs a case makes, and when.

use std::time::Duration;

use crate::case::Case;
use crate::project::{Answer, Running, signal};
use crate::world::{Behaviour, HANG};
use crate::{check, edit, generate};

/// A moment of a run: so long after its start, or after a stage has started.
#[derive(Debug)]
struct Moment {
    stage: Option<String>,
    wait: Duration,
}

impl Moment {
    /// Waits until then; not longer than the run takes.
    fn reach(&self, running: &mut Running) {
        if let Some(stage) = &self.stage {
            running.wait_for_line(&format!("> {stage}"));
        }
        std::thread::sleep(self.wait);
    }
}

impl Case {
    /// The words that choose how much is run at a time, and what a failure stops.
    fn words(&mut self) -> Vec<String> {
        let mut words = vec!["run".to_owned()];
        if self.rng.bool() {
            words.extend(["--jobs".to_owned(), self.rng.u8(1..=4).to_string()]);
        }
        if self.rng.u8(..4) == 0 {
            words.push("--keep-going".to_owned());
        }
        words
    }

    pub(crate) fn plain_run(&mut self) -> Result<(), String> {
        let words = self.words();
        self.note("run", words.join(" "));
        let answer = self.kiln(&words)?;
        self.undisturbed(&answer)
    }

    pub(crate) fn forced_run(&mut self) -> Result<(), String> {
        let mut words = self.words();
        for _ in 0..self.rng.usize(1..=2) {
            let at = self.rng.usize(..self.world.stages.len());
            words.extend(["--force".to_owned(), self.world.stages[at].name.clone()]);
        }
        self.note("forced run", words.join(" "));
        let answer = self.kiln(&words)?;
        self.undisturbed(&answer)
    }

    pub(crate) fn run_of_one(&mut self) -> Result<(), String> {
        let mut words = self.words();
        let at = self.rng.usize(..self.world.stages.len());
        words.push(self.world.stages[at].name.clone());
        self.note("run of one", words.join(" "));
        let answer = self.kiln(&words)?;
        ended_with(&answer, if self.fails() { &[0, 1] } else { &[0] })
    }

    pub(crate) fn interrupted_run(&mut self) -> Result<(), String> {
        let (words, wait) = (self.words(), self.moment());
        let again = self.rng.bool().then(|| Duration::from_millis(self.rng.u64(0..80)));
        self.note("interrupted run", format!("{} after {wait:?}, again after {again:?}", words.join(" ")));
        let mut running = self.start(&words);
        wait.reach(&mut running);
        running.signal("INT");
        if let Some(again) = again {
            std::thread::sleep(again);
            running.signal("INT");
        }
        let answer = running.wait()?;
        // Before the handler is there, SIGINT simply ends the process.
        if answer.code.is_none() {
            return Ok(());
        }
        ended_with(&answer, if self.fails() { &[0, 1, 130] } else { &[0, 130] })
    }

    pub(crate) fn killed_run(&mut self) -> Result<(), String> {
        let (words, wait) = (self.words(), self.moment());
        self.note("killed run", format!("{} after {wait:?}", words.join(" ")));
        let mut running = self.start(&words);
        wait.reach(&mut running);
        running.signal("KILL");
        running.wait().map(drop)
    }

    pub(crate) fn run_with_a_killed_process(&mut self) -> Result<(), String> {
        let (words, wait, which) = (self.words(), self.moment(), self.rng.usize(..));
        let mut running = self.start(&words);
        wait.reach(&mut running);
        let all = running.descendants();
        let victim = (!all.is_empty()).then(|| all[which % all.len()]);
        if let Some(pid) = victim {
            signal(pid, "KILL");
        }
        let place = victim.map(|_| which % all.len());
        self.note(
            "killed process",
            format!("{} after {wait:?}, process {place:?} of {}", words.join(" "), all.len()),
        );
        ended_with(&running.wait()?, &[0, 1])
    }

    pub(crate) fn two_runs(&mut self) -> Result<(), String> {
        let (first, second) = (self.words(), self.words());
        let wait = Duration::from_millis(self.rng.u64(0..60));
        let end =
            [None, None, Some("KILL"), Some("INT")][self.rng.usize(..4)].map(|name| (name, self.moment()));
        let what =
            format!("{} and after {wait:?} {}; to the first {end:?}", first.join(" "), second.join(" "));
        self.note("two runs", what);
        let mut first = self.start(&first);
        std::thread::sleep(wait);
        let second = self.start(&second);
        if let Some((name, moment)) = &end {
            moment.reach(&mut first);
            first.signal(name);
        }
        let first = first.wait()?;
        if end.is_none() {
            self.undisturbed(&first)?;
        }
        // Whatever becomes of the first, the second one does it all.
        self.undisturbed(&second.wait()?)
    }

    /// A run while the file of a source is written again and again, with one of two texts, so that a result that
    /// was kept under the wrong one is met again.
    pub(crate) fn run_with_a_restless_source(&mut self) -> Result<(), String> {
        let (words, path) = (self.words(), edit::pick_source_file(&self.world, &mut self.rng));
        let Some(path) = path else { return self.plain_run() };
        self.note("restless source", format!("{} while {path} changes", words.join(" ")));
        let texts = [generate::text(&mut self.rng), generate::text(&mut self.rng)];
        let mut running = self.start(&words);
        for n in 0..self.rng.usize(10..80) {
            if running.has_ended() {
                break;
            }
            let leaf = self.world.files.get_mut(&path).unwrap();
            leaf.text.clone_from(&texts[n % 2]);
            self.project.write(&self.world);
            std::thread::sleep(Duration::from_millis(3));
        }
        ended_with(&running.wait()?, &[0, 1])
    }

    pub(crate) fn run_with_an_edit(&mut self) -> Result<(), String> {
        let (words, wait) = (self.words(), self.moment());
        let mut running = self.start(&words);
        wait.reach(&mut running);
        self.edit();
        self.note("run with that edit", format!("{} after {wait:?}", words.join(" ")));
        // The pipeline file may have been read while it was written.
        ended_with(&running.wait()?, &[0, 1, 3])
    }

    /// A run with a stage that goes on until it is killed, and the end of the runner and of some of its processes.
    pub(crate) fn hanging_run(&mut self) -> Result<(), String> {
        let Some(leaf) = self.world.files.get_mut("data/mood") else { return self.killed_run() };
        let text = std::mem::replace(&mut leaf.text, format!("{HANG}\n"));
        self.project.write(&self.world);
        let mut wait = self.moment();
        wait.wait += Duration::from_millis(50);
        let (victims, stop) = (self.rng.u64(..), self.rng.bool());
        let mut running = self.start(&["run".to_owned(), "--keep-going".to_owned()]);
        wait.reach(&mut running);
        if stop {
            // Signals that come together count as one, and the first may come before the runner listens.
            while !running.has_ended() {
                running.signal("INT");
                std::thread::sleep(Duration::from_millis(40));
            }
        } else {
            for (n, pid) in running.descendants().into_iter().enumerate() {
                if victims >> (n % 64) & 1 == 1 {
                    signal(pid, "KILL");
                }
            }
            running.signal("KILL");
        }
        let what = if stop { "many SIGINT".to_owned() } else { format!("killed with processes {victims:b}") };
        self.note("hanging run", format!("after {wait:?} {what}"));
        running.wait()?;
        self.world.files.insert("data/mood".to_owned(), generate::plain(text));
        self.project.write(&self.world);
        Ok(())
    }

    /// A moment of a run.
    fn moment(&mut self) -> Moment {
        let slow = |behaviour| match behaviour {
            Behaviour::Slow(ms) | Behaviour::Traps(ms) | Behaviour::Deaf(ms) => u64::from(ms),
            Behaviour::Background { .. } => 30,
            Behaviour::Checkpoints => 60,
            _ => 0,
        };
        let stages = &self.world.stages;
        let slow_ones: Vec<_> = stages.iter().filter(|stage| slow(stage.behaviour) > 0).collect();
        if !slow_ones.is_empty() && self.rng.bool() {
            let stage = slow_ones[self.rng.usize(..slow_ones.len())];
            let wait = self.rng.u64(0..(slow(stage.behaviour) + 20) * 1000);
            return Moment { stage: Some(stage.name.clone()), wait: Duration::from_micros(wait) };
        }
        let all: u64 = stages.iter().map(|stage| 30 + slow(stage.behaviour) / 2).sum();
        Moment { stage: None, wait: Duration::from_micros(self.rng.u64(0..(40 + all) * 1000)) }
    }

    fn start(&self, words: &[String]) -> Running {
        self.project.start(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn kiln(&self, words: &[String]) -> Result<Answer, String> {
        self.start(words).wait()
    }

    /// A run that nobody disturbed ends as the world says.
    fn undisturbed(&self, answer: &Answer) -> Result<(), String> {
        ended_with(answer, if self.fails() { &[1] } else { &[0] })?;
        let cached = check::plan(&self.project, &self.world)?;
        if !self.fails() && cached.len() != self.world.stages.len() {
            return Err(format!("after a run that ended well only these are cached: {cached:?}"));
        }
        Ok(())
    }
}

/// The run ended with one of these exit codes.
pub fn ended_with(answer: &Answer, codes: &[i32]) -> Result<(), String> {
    if answer.code.is_some_and(|code| codes.contains(&code)) {
        return Ok(());
    }
    Err(format!("it ended with {:?} and not {codes:?}: {}{}", answer.code, answer.out, answer.err))
}
