//! A project as a value: files, sources and stages.
//!
//! Purpose: what a random project holds, and what its stages must make of it (an oracle that is independent of
//! Kiln).
//! Invariant: the outputs of a stage are a function of the world alone.
//! Must not know: disks, processes, how the world is written as YAML.

use std::collections::BTreeMap;

use crate::artifact::{Artifact, Entry, Leaf};

/// A project.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Files of sources and `uses`, by path.
    pub files: BTreeMap<String, Leaf>,
    pub sources: Vec<Source>,
    /// In an order in which inputs come first.
    pub stages: Vec<Stage>,
    /// A parameter of the pipeline, in YAML and as text.
    pub shared: Value,
}

/// A source.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub name: String,
    pub shape: Shape,
}

/// What the path of a source names, below `data/NAME`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    File,
    Folder,
    Glob,
}

/// A scalar as it stands in the file, and the text that a command gets.
pub type Value = (&'static str, &'static str);

#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    pub name: String,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    pub param: Option<Value>,
    pub takes_shared: bool,
    pub env: Option<Value>,
    /// A script of its own under `uses`, which it executes.
    pub tool: Option<String>,
    /// A number that its outputs hold.
    pub salt: u32,
    /// A number in a comment of its script, which changes the key and nothing else.
    pub comment: u32,
    /// A number in what is never hashed: a comment of the file, a timeout, resources.
    pub neutral: u32,
    pub cwd: bool,
    pub strict: bool,
    /// A list of words for exec: copies its first input.
    pub copies: bool,
    pub behaviour: Behaviour,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub name: String,
    pub from: From,
    pub reads: Reads,
    pub at: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum From {
    Source(String),
    Stage(String, String),
}

/// What of an input goes into the outputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reads {
    All,
    First,
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub name: String,
    pub folder: bool,
    pub exec: bool,
    /// For folders: an empty folder, links, a folder with a file.
    pub extras: bool,
    /// For folders: a link to this input, which is collected as bytes if it is a file.
    pub link_to: Option<usize>,
    pub path: Option<String>,
}

/// How a stage goes about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Behaviour {
    Plain,
    /// Takes so many milliseconds with half of its output written.
    Slow(u32),
    /// The same, and exits with 0 at SIGTERM.
    Traps(u32),
    /// The same, and does not hear SIGTERM.
    Deaf(u32),
    /// Writes its output in the background, after its shell has ended.
    Background {
        session: bool,
    },
    /// Fails at the first attempt for a key, and goes on from its checkpoint.
    FailsFirst,
    /// Writes parts in its checkpoint folder.
    Checkpoints,
    /// Reads from its first input, a source, whether to fail.
    Moody,
}

/// What becomes of a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    Made(BTreeMap<String, Artifact>),
    Fails,
    /// A stage above it fails.
    Blocked,
}

/// The moods of a source that a moody stage reads; all but the first make it fail.
pub const MOODS: [&str; 8] = ["calm", "exit", "pipe", "leave", "link", "fifo", "nothing", "signal"];
/// The mood of a stage that goes on until it is killed, with a process that does not hear SIGTERM.
pub const HANG: &str = "hang";
/// The file that all scripts use.
pub const SCAN: &str = "lib/scan.sh";

impl World {
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The artifact of a source.
    pub fn source(&self, source: &Source) -> Artifact {
        let base = format!("data/{}", source.name);
        if source.shape == Shape::File {
            return Artifact::File(self.files[&base].clone());
        }
        let mut entries = BTreeMap::new();
        for (path, leaf) in &self.files {
            let Some(below) = path.strip_prefix(&base).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            if source.shape == Shape::Glob && !below.ends_with(".txt") {
                continue;
            }
            for (at, _) in below.match_indices('/') {
                entries.insert(below[..at].to_owned(), Entry::Folder);
            }
            entries.insert(below.to_owned(), Entry::File(leaf.clone()));
        }
        Artifact::Folder(entries)
    }

    /// What becomes of each stage, by name.
    pub fn evaluate(&self) -> BTreeMap<String, Fate> {
        let mut fates: BTreeMap<String, Fate> = BTreeMap::new();
        for stage in &self.stages {
            let inputs: Option<Vec<Artifact>> = stage
                .inputs
                .iter()
                .map(|input| match &input.from {
                    From::Source(name) => {
                        self.sources.iter().find(|s| s.name == *name).map(|source| self.source(source))
                    }
                    From::Stage(above, output) => match fates.get(above) {
                        Some(Fate::Made(outputs)) => outputs.get(output).cloned(),
                        _ => None,
                    },
                })
                .collect();
            let fate = inputs.map_or(Fate::Blocked, |inputs| self.make(stage, &inputs));
            fates.insert(stage.name.clone(), fate);
        }
        fates
    }

    fn make(&self, stage: &Stage, inputs: &[Artifact]) -> Fate {
        if stage.copies {
            return Fate::Made([(stage.outputs[0].name.clone(), inputs[0].clone())].into());
        }
        if stage.behaviour == Behaviour::Moody {
            let Artifact::File(leaf) = &inputs[0] else { return Fate::Fails };
            if leaf.text.lines().next() != Some(MOODS[0]) {
                return Fate::Fails;
            }
        }
        if stage.tool.as_ref().is_some_and(|tool| !self.files[tool].exec) {
            return Fate::Fails;
        }
        let make = |output: &Output| (output.name.clone(), self.output(stage, output, inputs));
        Fate::Made(stage.outputs.iter().map(make).collect())
    }

    fn output(&self, stage: &Stage, output: &Output, inputs: &[Artifact]) -> Artifact {
        let text = self.body(stage, output, inputs);
        let main = Leaf { text, exec: output.exec };
        if !output.folder {
            return Artifact::File(main);
        }
        let mut entries = BTreeMap::from([("main.txt".to_owned(), Entry::File(main))]);
        if output.extras {
            let part = Leaf { text: format!("part {}\n", stage.salt), exec: false };
            entries.extend([
                ("hollow".to_owned(), Entry::Folder),
                ("hollow/deep".to_owned(), Entry::Folder),
                ("sub".to_owned(), Entry::Folder),
                ("sub/part.txt".to_owned(), Entry::File(part)),
                ("latest".to_owned(), Entry::Link("main.txt".to_owned())),
                ("sub/up".to_owned(), Entry::Link("../hollow".to_owned())),
            ]);
        }
        if let Some(Artifact::File(leaf)) = output.link_to.map(|at| &inputs[at]) {
            entries.insert("input".to_owned(), Entry::File(leaf.clone()));
        }
        Artifact::Folder(entries)
    }

    fn body(&self, stage: &Stage, output: &Output, inputs: &[Artifact]) -> String {
        let mut text = format!("salt {} {}\n", stage.salt, output.name);
        if let Some((_, value)) = stage.param {
            text += &format!("p={value}\n");
        }
        if stage.takes_shared {
            text += &format!("shared={}\n", self.shared.1);
        }
        if let Some((_, value)) = stage.env {
            text += &format!("e={value}\n");
        }
        for (input, artifact) in stage.inputs.iter().zip(inputs) {
            text += &match input.reads {
                Reads::All => artifact.scan(),
                Reads::First => artifact.first(),
                Reads::Nothing => String::new(),
            };
        }
        if let Some(tool) = &stage.tool {
            text += &tool_prints(&self.files[tool]);
        }
        if stage.behaviour == Behaviour::Checkpoints {
            text += "step 1\nstep 2\nstep 3\n";
        }
        text
    }
}

/// A tool that prints a number; its comment can change without its output.
pub fn tool(number: u32, comment: u32) -> String {
    format!("#!/bin/bash\n# {comment}\necho \"tool {number}\"\n")
}

fn tool_prints(tool: &Leaf) -> String {
    let line = tool.text.lines().last().unwrap_or_default();
    format!("{}\n", line.trim_start_matches("echo \"").trim_end_matches('"'))
}
