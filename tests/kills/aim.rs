//! Whom a case kills, and when.
//!
//! Purpose: choose a moment from a seed, so that every phase of every command has its turn, and kill there.
//! Invariant: what a kill hit is what the tracer saw at that moment.
//! Must not know: what must be true afterwards.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use fastrand::Rng;

use crate::calls::{Call, decode};
use crate::common::processes::{descendants, kill};
use crate::phase::{Phase, Phases};
use crate::scene::{Place, Prepared, Scene};
use crate::trace::{self, Moment, Next, Stop};

/// The longest wait before a kill while a stage runs, in microseconds: about what a stage takes.
const LONGEST_WAIT: u64 = 15_000;
/// How often a process of a stage is looked for.
const LOOKS: usize = 10;

/// Whom the kernel takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The `kiln` that was called.
    Command,
    /// A process of a stage.
    Stage,
    Supervisor,
    Spawner,
}

/// What the cases take turns with: the first twenty meet every phase and every victim.
const TURNS: [(Scene, Phase, Victim); 38] = {
    use {Phase as P, Scene as S, Victim as V};
    [
        (S::Run, P::Starting, V::Command),
        (S::Run, P::Preparing, V::Command),
        (S::Run, P::Executing, V::Command),
        (S::Run, P::Collecting, V::Command),
        (S::Run, P::CommittingBlobs, V::Command),
        (S::Run, P::CommittingAction, V::Command),
        (S::Run, P::Clearing, V::Command),
        (S::Run, P::WritingRecord, V::Command),
        (S::Run, P::Executing, V::Stage),
        (S::Run, P::Executing, V::Supervisor),
        (S::Run, P::Executing, V::Spawner),
        (S::Push, P::PushingPieces, V::Command),
        (S::Push, P::PushingBlobs, V::Command),
        (S::Push, P::PushingAction, V::Command),
        (S::Fetch, P::Fetching, V::Command),
        (S::Pull, P::Fetching, V::Command),
        (S::Gc, P::Removing, V::Command),
        (S::Fsck, P::Repairing, V::Command),
        (S::Share, P::PushingAction, V::Command),
        (S::FetchAndRun, P::Executing, V::Command),
        (S::Share, P::Executing, V::Command),
        (S::Share, P::CommittingAction, V::Command),
        (S::Share, P::PushingPieces, V::Command),
        (S::Share, P::PushingBlobs, V::Command),
        (S::Share, P::WritingRecord, V::Command),
        (S::Share, P::Executing, V::Supervisor),
        (S::Fetch, P::Starting, V::Command),
        (S::Fetch, P::CommittingBlobs, V::Command),
        (S::Fetch, P::CommittingAction, V::Command),
        (S::Fetch, P::WritingRecord, V::Command),
        (S::FetchAndRun, P::Fetching, V::Command),
        (S::FetchAndRun, P::CommittingAction, V::Command),
        (S::FetchAndRun, P::PushingAction, V::Command),
        (S::Pull, P::CommittingBlobs, V::Command),
        (S::Pull, P::CommittingAction, V::Command),
        (S::Gc, P::Removing, V::Command),
        (S::Fsck, P::Fetching, V::Command),
        (S::Fsck, P::CommittingAction, V::Command),
    ]
};

/// How many calls of each phase an undisturbed command makes.
pub type Counts = BTreeMap<(Scene, Phase), usize>;

/// A moment of a command.
#[derive(Debug, Clone)]
pub struct Aim {
    pub scene: Scene,
    pub phase: Phase,
    pub victim: Victim,
    /// Which of the calls of the phase.
    number: usize,
    /// Whether the call is made before.
    after: bool,
    wait: Duration,
    /// Which of several processes.
    which: usize,
}

impl Aim {
    /// The moment of a case.
    pub fn of(seed: u64, counts: &Counts, rng: &mut Rng) -> Self {
        let (scene, phase, victim) = TURNS[(seed % TURNS.len() as u64) as usize];
        let count = counts.get(&(scene, phase)).copied().unwrap_or(1);
        let executing = phase == Phase::Executing;
        let wait = if executing { rng.u64(..LONGEST_WAIT) } else { 0 };
        Self {
            scene,
            phase,
            victim,
            number: rng.usize(1..=count),
            // A stage is under way when the message has gone.
            after: executing || rng.bool(),
            wait: Duration::from_micros(wait),
            which: rng.usize(..),
        }
    }
}

/// What became of a command that was to be killed.
#[derive(Debug)]
pub struct Hit {
    /// The call at which it was killed, and the process that was; none when the moment did not come.
    pub at: Option<(Call, String)>,
    /// The exit code of the command.
    pub code: Option<i32>,
}

/// How many calls of each phase there are in each scene.
///
/// # Errors
/// A command cannot be traced, or does not end well.
pub fn survey(prepared: &Prepared) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for scene in TURNS.map(|(scene, ..)| scene) {
        if counts.keys().any(|(known, _)| *known == scene) {
            continue;
        }
        let place = Place::new(scene, prepared);
        let mut phases = phases(&place);
        let code = trace::run(&mut place.command(), &mut |_, stop| {
            let phase = call(stop).and_then(|call| phases.at(&call));
            phase.into_iter().for_each(|phase| *counts.entry((scene, phase)).or_default() += 1);
            Next::GoOn
        });
        // What lies in a damaged store and what is called sound again both end well.
        match code {
            Ok(Some(0)) => {}
            code => return Err(format!("an undisturbed {scene:?} ended with {code:?}")),
        }
    }
    Ok(counts)
}

/// Runs the command of a place and kills where the aim says.
///
/// # Errors
/// The command cannot be traced.
pub fn shoot(place: &Place, aim: &Aim) -> io::Result<Hit> {
    let (mut phases, mut seen) = (phases(place), 0);
    let (mut armed, mut at) = (None, None);
    let code = trace::run(&mut place.command(), &mut |leader, stop| {
        if matches!(stop.moment, Moment::After) {
            let Some((_, call)) = armed.take_if(|(thread, _)| *thread == stop.thread) else {
                return Next::GoOn;
            };
            return match strike(leader, aim) {
                Some(victim) => {
                    at = Some((call, victim));
                    if aim.victim == Victim::Command { Next::Kill } else { Next::Release }
                }
                // The message did not start a stage, or the stage has ended: the next one counts.
                None => Next::GoOn,
            };
        }
        let Some(call) = call(stop).filter(|call| phases.at(call) == Some(aim.phase)) else {
            return Next::GoOn;
        };
        seen += 1;
        if seen < aim.number || at.is_some() {
            return Next::GoOn;
        }
        if aim.after {
            armed = Some((stop.thread, call));
            return Next::GoOn;
        }
        at = Some((call, "the command, before the call".to_owned()));
        Next::Kill
    })?;
    Ok(Hit { at, code })
}

/// Kills the process that the aim is at, unless it is the command; names it. None when a stage was to be under way
/// and none is. The command stands still meanwhile, and its stages go on.
fn strike(leader: i32, aim: &Aim) -> Option<String> {
    if aim.phase != Phase::Executing {
        return Some("the command, after the call".to_owned());
    }
    std::thread::sleep(aim.wait);
    // On a busy machine a stage takes a while to begin.
    (0..LOOKS).find_map(|_| {
        let victim = strike_a_stage(leader, aim);
        if victim.is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        victim
    })
}

fn strike_a_stage(leader: i32, aim: &Aim) -> Option<String> {
    let (mut spawners, mut supervisors, mut stages) = (Vec::new(), Vec::new(), Vec::new());
    for process in descendants(leader) {
        match process.parent {
            parent if parent == leader => spawners.push(process),
            _ if process.name == "kiln-supervisor" => supervisors.push(process),
            _ => stages.push(process),
        }
    }
    supervisors.retain(|supervisor| stages.iter().any(|stage| stage.parent == supervisor.pid));
    let running = format!("{} processes of stages ran", stages.len());
    let those = match aim.victim {
        _ if stages.is_empty() => return None,
        Victim::Command => return Some(format!("the command, while {running}")),
        Victim::Spawner => spawners,
        Victim::Supervisor => supervisors,
        Victim::Stage => stages,
    };
    let victim = those.get(aim.which.checked_rem(those.len())?)?;
    let line = victim.command_line();
    kill(victim.pid);
    Some(format!("{:?}: {line}, while {running}", aim.victim))
}

fn phases(place: &Place) -> Phases {
    let (scene, root) = (place.scene, place.project.root());
    Phases::of(root, place.remote.path(), scene.fetches(), scene == Scene::Gc)
}

fn call(stop: &Stop) -> Option<Call> {
    match &stop.moment {
        Moment::Before { number, arguments } => decode(stop.thread, *number, arguments),
        Moment::After => None,
    }
}
