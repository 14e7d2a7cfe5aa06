//! Random projects.
//!
//! Purpose: a world from a seed.
//! Invariant: the same seed gives the same world; inputs come from earlier stages, so there are no cycles.
//! Must not know: how a world is written or run.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::artifact::Leaf;
use crate::world::{
    Behaviour, From, Input, MOODS, Output, Reads, SCAN, Shape, Source, Stage, Value, World, tool,
};

/// Values that have been got wrong by someone at some time.
pub const VALUES: [Value; 14] = [
    ("3.10", "3.10"),
    ("02134", "02134"),
    ("1e3", "1e3"),
    ("99999999999999999998", "99999999999999999998"),
    ("99999999999999999999", "99999999999999999999"),
    ("-0.0", "-0.0"),
    ("true", "true"),
    ("\"a  b\"", "a  b"),
    ("'it''s \"so\"'", "it's \"so\""),
    ("'x; touch pwned'", "x; touch pwned"),
    ("'$HOME `id` $(id)'", "$HOME `id` $(id)"),
    ("'a\\b*?['", "a\\b*?["),
    ("'#ff8800'", "#ff8800"),
    ("'é ☃'", "é ☃"),
];

/// A random world.
pub fn world(rng: &mut Rng) -> World {
    let mut world = World {
        files: BTreeMap::from([(SCAN.to_owned(), plain(include_str!("scan.sh").to_owned()))]),
        sources: Vec::new(),
        stages: Vec::new(),
        shared: value(rng),
    };
    for n in 0..rng.usize(1..=3) {
        let shape = [Shape::File, Shape::Folder, Shape::Glob][rng.usize(..3)];
        add_source(&mut world, rng, format!("src{n}"), shape);
    }
    if rng.u8(..3) == 0 {
        world.sources.push(Source { name: "mood".to_owned(), shape: Shape::File });
        let mood = if rng.u8(..3) == 0 { MOODS[rng.usize(..MOODS.len())] } else { MOODS[0] };
        world.files.insert("data/mood".to_owned(), plain(format!("{mood}\n")));
    }
    let count = if rng.u8(..6) == 0 { rng.usize(8..=12) } else { rng.usize(2..=7) };
    for _ in 0..count {
        let stage = stage(&mut world, rng);
        world.stages.push(stage);
    }
    if world.sources.iter().any(|source| source.name == "mood") {
        let at = rng.usize(..world.stages.len());
        make_moody(&mut world.stages[at], rng);
    }
    world
}

/// A name that no stage has had.
pub fn fresh_name(world: &World, rng: &mut Rng) -> String {
    loop {
        let name = format!("{}{}", ["st", "fit", "prep-", "x_"][rng.usize(..4)], rng.u16(..1000));
        if world.stage(&name).is_none() {
            return name;
        }
    }
}

/// A value for a parameter or a variable.
pub fn value(rng: &mut Rng) -> Value {
    VALUES[rng.usize(..VALUES.len())]
}

/// A text for a file of a source.
pub fn text(rng: &mut Rng) -> String {
    let first = ["alpha", "beta"][rng.usize(..2)];
    let more = if rng.u8(..40) == 0 { "long line of text\n".repeat(30_000) } else { String::new() };
    format!("{first}\n{}\n{more}", rng.u16(..))
}

pub fn plain(text: String) -> Leaf {
    Leaf { text, exec: false }
}

fn add_source(world: &mut World, rng: &mut Rng, name: String, shape: Shape) {
    let base = format!("data/{name}");
    if shape == Shape::File {
        world.files.insert(base, Leaf { text: text(rng), exec: rng.u8(..5) == 0 });
    } else {
        for n in 0..rng.usize(1..=4) {
            let path = if rng.bool() { format!("{base}/f{n}.txt") } else { format!("{base}/deep/f{n}.txt") };
            world.files.insert(path, Leaf { text: text(rng), exec: rng.u8(..5) == 0 });
        }
        if rng.bool() {
            world.files.insert(format!("{base}/other.csv"), plain(text(rng)));
        }
    }
    world.sources.push(Source { name, shape });
}

/// A stage that may read whatever is there.
pub fn stage(world: &mut World, rng: &mut Rng) -> Stage {
    let inputs = inputs(world, rng);
    let behaviour = behaviour(rng);
    let copies = inputs.len() == 1 && rng.u8(..6) == 0;
    let mut outputs = vec![output(rng, "o", inputs.len())];
    if copies {
        outputs = vec![Output {
            name: "o".into(),
            folder: false,
            exec: false,
            extras: false,
            link_to: None,
            path: None,
        }];
    } else if rng.u8(..4) == 0 {
        outputs.push(output(rng, "more", inputs.len()));
    }
    let mut with_tool = || {
        let path = format!("tools/t{}.sh", rng.u8(..4));
        let leaf = Leaf { text: tool(rng.u32(..9), 0), exec: true };
        world.files.entry(path.clone()).or_insert(leaf);
        path
    };
    let tool = if copies || with_tool_is_unwanted(inputs.len()) { None } else { Some(with_tool()) };
    Stage {
        name: fresh_name(world, rng),
        inputs,
        outputs,
        param: (!copies && rng.u8(..3) == 0).then(|| value(rng)),
        takes_shared: !copies && rng.u8(..5) == 0,
        env: (!copies && rng.u8(..5) == 0).then(|| value(rng)),
        tool: tool.filter(|_| rng.u8(..3) == 0),
        salt: rng.u32(..100),
        comment: 0,
        neutral: 0,
        cwd: !copies && rng.u8(..8) == 0,
        strict: rng.u8(..12) == 0,
        copies,
        behaviour: if copies { Behaviour::Plain } else { behaviour },
    }
}

/// Stages of many inputs are long enough.
fn with_tool_is_unwanted(inputs: usize) -> bool {
    inputs > 2
}

fn inputs(world: &World, rng: &mut Rng) -> Vec<Input> {
    let mut froms: Vec<From> =
        world.sources.iter().filter(|s| s.name != "mood").map(|s| From::Source(s.name.clone())).collect();
    for stage in &world.stages {
        froms.extend(stage.outputs.iter().map(|o| From::Stage(stage.name.clone(), o.name.clone())));
    }
    // Deep graphs are more interesting than wide ones.
    let most = froms.len().min(3);
    let least = usize::from(rng.u8(..8) > 0);
    let count = rng.usize(least..=most);
    (0..count)
        .map(|n| {
            let at = froms.len() - 1 - rng.usize(..froms.len()).min(rng.usize(..froms.len()));
            let name = ["a", "b", "c"][n].to_owned();
            Input {
                at: (rng.u8(..6) == 0).then(|| format!("places/{name}/here")),
                name,
                from: froms.swap_remove(at),
                reads: [Reads::All, Reads::All, Reads::First, Reads::Nothing][rng.usize(..4)],
            }
        })
        .collect()
}

fn output(rng: &mut Rng, name: &str, inputs: usize) -> Output {
    let folder = rng.bool();
    Output {
        name: name.to_owned(),
        folder,
        exec: rng.u8(..4) == 0,
        extras: rng.bool(),
        link_to: (folder && inputs > 0 && rng.u8(..3) == 0).then(|| rng.usize(..inputs)),
        path: (rng.u8(..6) == 0).then(|| format!("results/{name}.out")),
    }
}

fn behaviour(rng: &mut Rng) -> Behaviour {
    match rng.u8(..24) {
        0..=2 => Behaviour::Slow(rng.u32(20..120)),
        3..=5 => Behaviour::Traps(rng.u32(20..120)),
        6 => Behaviour::Deaf(rng.u32(20..120)),
        7 | 8 => Behaviour::Background { session: false },
        9 => Behaviour::Background { session: true },
        10 => Behaviour::FailsFirst,
        11 | 12 => Behaviour::Checkpoints,
        _ => Behaviour::Plain,
    }
}

/// Lets the mood decide whether this stage fails.
fn make_moody(stage: &mut Stage, rng: &mut Rng) {
    if stage.copies {
        return;
    }
    let mood = Input {
        name: "mood".to_owned(),
        from: From::Source("mood".to_owned()),
        reads: if rng.bool() { Reads::All } else { Reads::Nothing },
        at: None,
    };
    stage.inputs.insert(0, mood);
    for output in &mut stage.outputs {
        output.link_to = output.link_to.map(|at| at + 1);
    }
    stage.behaviour = Behaviour::Moody;
}
