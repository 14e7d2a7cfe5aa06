//! A world as a pipeline file.
//!
//! Purpose: the YAML of a world and the scripts of its stages.
//! Invariant: a script does what `world` says that it does; texts are quoted as JSON, which is YAML too.
//! Must not know: disks, processes, what has been run.

use std::fmt::Write;

use serde_json::to_string as quoted;

use crate::world::{Behaviour, From, Input, Output, Reads, SCAN, Shape, Stage, World};

/// The pipeline file of a world.
pub fn pipeline(world: &World) -> String {
    let mut text = "pipeline: soak\n".to_owned();
    if world.stages.iter().any(|stage| stage.takes_shared) {
        let _ = writeln!(text, "params: {{ shared: {} }}", world.shared.0);
    }
    text += "sources:\n";
    for source in &world.sources {
        let end = if source.shape == Shape::Glob { "/**/*.txt" } else { "" };
        let _ = writeln!(text, "  {0}: {{ path: 'data/{0}{end}', type: any }}", source.name);
    }
    text += "stages:\n";
    for stage in &world.stages {
        text += &one(stage);
    }
    text
}

fn one(stage: &Stage) -> String {
    let mut text = format!("  {}:\n    kind: command\n", stage.name);
    let inputs: Vec<_> = stage.inputs.iter().map(input).collect();
    if !inputs.is_empty() {
        let _ = writeln!(text, "    inputs: {{ {} }}", inputs.join(", "));
    }
    let outputs: Vec<_> = stage.outputs.iter().map(output).collect();
    let _ = writeln!(text, "    outputs: {{ {} }}", outputs.join(", "));
    if let Some((value, _)) = stage.param {
        let _ = writeln!(text, "    params: {{ p: {value} }}");
    }
    if let Some((value, _)) = stage.env {
        let _ = writeln!(text, "    env: {{ SOAK_E: {value} }}");
    }
    if stage.cwd {
        text += "    cwd: work/here\n";
    }
    if stage.strict {
        text += "    sandbox: strict\n";
    }
    if stage.neutral > 0 {
        let _ = writeln!(text, "    timeout: {}s # {0}", 60 + stage.neutral);
        let _ = writeln!(text, "    resources: {{ memory: {}MiB }}", 1 + stage.neutral);
    }
    match stage.behaviour {
        Behaviour::FailsFirst => text += "    retries: 1\n",
        Behaviour::Moody => text += "    linger: 100ms\n",
        _ => {}
    }
    if stage.copies {
        let words = ["cp", "-r", "{inputs.a}", "{outputs.o}"].map(|word| format!("'{word}'"));
        let _ = writeln!(text, "    run: [{}]", words.join(", "));
        return text;
    }
    let uses: Vec<_> = std::iter::once(SCAN).chain(stage.tool.as_deref()).collect();
    let _ = writeln!(text, "    uses: [{}]", uses.join(", "));
    let _ = writeln!(text, "    run: {}", quoted(&script(stage)).unwrap_or_default());
    text
}

fn input(input: &Input) -> String {
    let from = match &input.from {
        From::Source(name) => name.clone(),
        From::Stage(stage, output) => format!("{stage}.{output}"),
    };
    match &input.at {
        Some(at) => format!("{}: {{ from: {from}, at: {at} }}", input.name),
        None => format!("{}: {from}", input.name),
    }
}

fn output(output: &Output) -> String {
    match &output.path {
        Some(path) => format!("{}: {{ type: any, path: {path} }}", output.name),
        None => format!("{}: any", output.name),
    }
}

fn script(stage: &Stage) -> String {
    let back = if stage.cwd { "../../" } else { "./" };
    let mut text = format!("# {}\n. {back}{SCAN}\n", stage.comment);
    for output in &stage.outputs {
        let _ = writeln!(text, "body_{}() {{\n{}}}", output.name, body(stage, output, back));
    }
    text += "make() {\n";
    for output in &stage.outputs {
        text += &make(stage, output);
    }
    text += "}\n";
    let main = main_file(&stage.outputs[0]);
    let half = match stage.outputs[0].folder {
        true => format!("mkdir -p {{outputs.{}}}\necho half > {main}\n", stage.outputs[0].name),
        false => format!("echo half > {main}\n"),
    };
    text + &match stage.behaviour {
        Behaviour::Plain => "make\n".to_owned(),
        Behaviour::Slow(ms) => format!("{half}{}make\n", nap(ms)),
        Behaviour::Traps(ms) => format!("trap 'exit 0' TERM\n{half}sleep {} &\nwait $!\nmake\n", seconds(ms)),
        Behaviour::Deaf(ms) => format!("trap '' TERM\n{half}{}make\n", nap(ms)),
        Behaviour::Background { session: false } => format!("{half}( {LOUD}; sleep 0.03; make ) &\n"),
        Behaviour::Background { session: true } => {
            format!("{half}{}", in_a_session(stage))
        }
        Behaviour::FailsFirst => {
            format!(
                "{half}if [ ! -e {{checkpoint}}/tried ]; then touch {{checkpoint}}/tried; exit 9; fi\nmake\n"
            )
        }
        Behaviour::Checkpoints => format!("{half}{CHECKPOINTS}make\n"),
        Behaviour::Moody => format!("{}make\n", moods(stage, &half)),
    }
}

/// Nobody sees the exit code of what outlives its shell, so it dies by a signal when a line of it fails.
const LOUD: &str = "set -E; trap \"kill -9 \\$BASHPID\" ERR";

/// Parts that survive the attempt; each is there as a whole or not at all.
const CHECKPOINTS: &str = "for i in 1 2 3; do
  if [ ! -e {checkpoint}/$i ]; then
    echo \"step $i\" > {checkpoint}/new
    sleep 0.02
    mv {checkpoint}/new {checkpoint}/$i
  fi
done
";

/// A process in a session of its own outlives the shell.
fn in_a_session(stage: &Stage) -> String {
    let names: Vec<_> = stage.outputs.iter().map(|output| format!("body_{}", output.name)).collect();
    format!(
        "export -f make scan one first {}\nsetsid bash -ec '{LOUD}; sleep 0.03; make' &\n",
        names.join(" ")
    )
}

fn body(stage: &Stage, output: &Output, back: &str) -> String {
    let mut text = format!("echo 'salt {} {}'\n", stage.salt, output.name);
    if stage.param.is_some() {
        text += "echo p={params.p}\n";
    }
    if stage.takes_shared {
        text += "echo \"shared={params.shared}\"\n";
    }
    if stage.env.is_some() {
        text += "echo \"e=$SOAK_E\"\n";
    }
    for input in &stage.inputs {
        let _ = match input.reads {
            Reads::All => writeln!(text, "scan {{inputs.{}}}", input.name),
            Reads::First => writeln!(text, "first {{inputs.{}}}", input.name),
            Reads::Nothing => Ok(()),
        };
    }
    if let Some(tool) = &stage.tool {
        let _ = writeln!(text, "{back}{tool}");
    }
    if stage.behaviour == Behaviour::Checkpoints {
        text += "cat {checkpoint}/1 {checkpoint}/2 {checkpoint}/3\n";
    }
    text
}

fn main_file(output: &Output) -> String {
    let name = &output.name;
    if output.folder { format!("{{outputs.{name}}}/main.txt") } else { format!("{{outputs.{name}}}") }
}

fn make(stage: &Stage, output: &Output) -> String {
    let (name, main) = (&output.name, main_file(output));
    let mut text = String::new();
    if output.folder {
        let _ = writeln!(text, "mkdir -p {{outputs.{name}}}");
    }
    let _ = writeln!(text, "body_{name} > {main}");
    if output.exec {
        let _ = writeln!(text, "chmod +x {main}");
    }
    if output.folder && output.extras {
        let _ = writeln!(text, "mkdir -p {{outputs.{name}}}/hollow/deep {{outputs.{name}}}/sub");
        let _ = writeln!(text, "echo 'part {}' > {{outputs.{name}}}/sub/part.txt", stage.salt);
        let _ = writeln!(text, "ln -sfn main.txt {{outputs.{name}}}/latest");
        let _ = writeln!(text, "ln -sfn ../hollow {{outputs.{name}}}/sub/up");
    }
    if let Some(at) = output.link_to.filter(|_| output.folder) {
        let input = &stage.inputs[at].name;
        let _ = writeln!(text, "if [ -f {{inputs.{input}}} ]; then");
        let _ = writeln!(text, "  ln -sfn \"$PWD\"/{{inputs.{input}}} {{outputs.{name}}}/input\nfi");
    }
    text
}

fn moods(stage: &Stage, half: &str) -> String {
    let output = &stage.outputs[0].name;
    let mood = &stage.inputs[0].name;
    format!(
        "IFS= read -r mood < {{inputs.{mood}}}
case \"$mood\" in
  exit) {half}exit 3 ;;
  pipe) (echo x; exit 7) | cat > {{outputs.{output}}} ;;
  leave) {half}sleep 60 & exit 0 ;;
  link) ln -s /etc/passwd {{outputs.{output}}}; exit 0 ;;
  fifo) mkfifo {{outputs.{output}}}; exit 0 ;;
  nothing) exit 0 ;;
  signal) {half}kill -9 $$ ;;
  hang) {half}(trap '' TERM; exec sleep 60) & sleep 60 ;;
esac
"
    )
}

fn nap(ms: u32) -> String {
    format!("sleep {}\n", seconds(ms))
}

fn seconds(ms: u32) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
