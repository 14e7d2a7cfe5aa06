//! Random changes of a world.
//!
//! Purpose: what people do to a project between two runs.
//! Invariant: the world stays one that a pipeline file can say; a change says what it did.
//! Must not know: disks, processes.

use fastrand::Rng;

use crate::generate::{fresh_name, plain, stage, text, value};
use crate::world::{Behaviour, From, MOODS, Reads, SCAN, Shape, World, tool};

/// Changes a world at random; says how.
pub fn edit(world: &mut World, rng: &mut Rng) -> String {
    loop {
        let done = match rng.u8(..15) {
            0..=3 => source_file(world, rng),
            4 => more_or_fewer_files(world, rng),
            5 | 6 => value_of(world, rng),
            7 => tool_file(world, rng),
            8 => script(world, rng),
            9 => rewire(world, rng),
            10 => Some(add(world, rng)),
            11 => remove(world, rng),
            12 => rename(world, rng),
            13 => mood(world, rng),
            _ => uses(world, rng),
        };
        if let Some(done) = done {
            return done;
        }
    }
}

/// A path of a source's file, but for the mood.
pub fn pick_source_file(world: &World, rng: &mut Rng) -> Option<String> {
    let mut all = world.files.keys().filter(|path| path.starts_with("data/") && *path != "data/mood");
    let count = all.clone().count();
    all.nth(rng.usize(..count.max(1))).cloned()
}

fn source_file(world: &mut World, rng: &mut Rng) -> Option<String> {
    let path = pick_source_file(world, rng)?;
    let leaf = world.files.get_mut(&path)?;
    if rng.u8(..4) == 0 {
        leaf.exec = !leaf.exec;
        return Some(format!("{path}: executable {}", leaf.exec));
    }
    leaf.text = text(rng);
    Some(format!("{path}: new text {:?}", leaf.text.chars().take(20).collect::<String>()))
}

fn more_or_fewer_files(world: &mut World, rng: &mut Rng) -> Option<String> {
    let source = world.sources.get(rng.usize(..world.sources.len()))?;
    if source.shape == Shape::File {
        return None;
    }
    let base = format!("data/{}/", source.name);
    let mut texts = world.files.keys().filter(|path| path.starts_with(&base) && path.ends_with(".txt"));
    let count = texts.clone().count();
    if count > 1 && rng.bool() {
        let path = texts.nth(rng.usize(..count))?.clone();
        world.files.remove(&path);
        return Some(format!("remove {path}"));
    }
    let path = format!("{base}new{}.txt", rng.u8(..));
    world.files.insert(path.clone(), plain(text(rng)));
    Some(format!("add {path}"))
}

fn value_of(world: &mut World, rng: &mut Rng) -> Option<String> {
    let value = value(rng);
    if rng.u8(..4) == 0 {
        world.shared = value;
        return Some(format!("params.shared: {}", value.0));
    }
    let at = rng.usize(..world.stages.len());
    let stage = world.stages.get_mut(at).filter(|stage| !stage.copies)?;
    if rng.bool() {
        stage.param = Some(value);
        Some(format!("{}: params.p: {}", stage.name, value.0))
    } else {
        stage.env = Some(value);
        Some(format!("{}: env.SOAK_E: {}", stage.name, value.0))
    }
}

fn tool_file(world: &mut World, rng: &mut Rng) -> Option<String> {
    let used: Vec<String> = world.stages.iter().filter_map(|stage| stage.tool.clone()).collect();
    let path = used.get(rng.usize(..used.len().max(1)))?.clone();
    let leaf = world.files.get_mut(&path)?;
    match rng.u8(..5) {
        0 => leaf.exec = !leaf.exec,
        1 | 2 => leaf.text = tool(rng.u32(..9), rng.u32(..9)),
        _ => {
            let number = leaf.text.trim_end().trim_end_matches('"').rsplit(' ').next()?.parse().ok()?;
            leaf.text = tool(number, rng.u32(..9));
        }
    }
    Some(format!("{path}: {:?}", leaf))
}

fn script(world: &mut World, rng: &mut Rng) -> Option<String> {
    let at = rng.usize(..world.stages.len());
    let stage = world.stages.get_mut(at).filter(|stage| !stage.copies)?;
    if rng.bool() {
        stage.comment += 1;
        return Some(format!("{}: comment {}", stage.name, stage.comment));
    }
    stage.salt = rng.u32(..100);
    Some(format!("{}: salt {}", stage.name, stage.salt))
}

fn rewire(world: &mut World, rng: &mut Rng) -> Option<String> {
    let at = rng.usize(..world.stages.len());
    let stage = world.stages.get_mut(at)?;
    let output = &mut stage.outputs[0];
    match rng.u8(..3) {
        0 if !stage.copies => output.exec = !output.exec,
        1 if output.folder => output.extras = !output.extras,
        _ => {
            let input = stage.inputs.last_mut().filter(|input| input.name != "mood" && !stage.copies)?;
            input.reads = [Reads::All, Reads::First, Reads::Nothing][rng.usize(..3)];
        }
    }
    Some(format!("{}: another form: {:?} {:?}", stage.name, stage.outputs[0], stage.inputs))
}

fn add(world: &mut World, rng: &mut Rng) -> String {
    let stage = stage(world, rng);
    let done = format!("add stage {}: {stage:?}", stage.name);
    world.stages.push(stage);
    done
}

fn remove(world: &mut World, rng: &mut Rng) -> Option<String> {
    let needed = |name: &str| {
        world.stages.iter().flat_map(|s| &s.inputs).any(|i| matches!(&i.from, From::Stage(s, _) if s == name))
    };
    let at = rng.usize(..world.stages.len());
    if world.stages.len() < 2 || needed(&world.stages[at].name) {
        return None;
    }
    Some(format!("remove stage {}", world.stages.remove(at).name))
}

fn rename(world: &mut World, rng: &mut Rng) -> Option<String> {
    let new = fresh_name(world, rng);
    let at = rng.usize(..world.stages.len());
    let old = std::mem::replace(&mut world.stages[at].name, new.clone());
    for input in world.stages.iter_mut().flat_map(|stage| &mut stage.inputs) {
        if let From::Stage(name, _) = &mut input.from
            && *name == old
        {
            name.clone_from(&new);
        }
    }
    Some(format!("rename stage {old} to {new}"))
}

/// Changes what is no part of a key: the name of a stage, the order of stages, comments, times, resources.
pub fn neutral(world: &mut World, rng: &mut Rng) -> String {
    if rng.bool()
        && let Some(done) = rename(world, rng)
    {
        return done;
    }
    let at = rng.usize(..world.stages.len());
    let stage = &mut world.stages[at];
    stage.neutral += rng.u32(1..9);
    format!("{}: neutral {}", stage.name, stage.neutral)
}

fn mood(world: &mut World, rng: &mut Rng) -> Option<String> {
    let leaf = world.files.get_mut("data/mood")?;
    let mood = if rng.bool() { MOODS[0] } else { MOODS[rng.usize(..MOODS.len())] };
    leaf.text = format!("{mood}\n");
    Some(format!("mood {mood}"))
}

fn uses(world: &mut World, rng: &mut Rng) -> Option<String> {
    let behaviours = [Behaviour::Plain, Behaviour::Traps(60), Behaviour::Checkpoints];
    if rng.bool() {
        let at = rng.usize(..world.stages.len());
        let stage = world.stages.get_mut(at);
        let stage = stage.filter(|stage| !stage.copies && stage.behaviour != Behaviour::Moody)?;
        stage.behaviour = behaviours[rng.usize(..3)];
        return Some(format!("{}: {:?}", stage.name, stage.behaviour));
    }
    let leaf = world.files.get_mut(SCAN)?;
    leaf.text += "# another comment\n";
    Some(format!("{SCAN}: another comment"))
}
