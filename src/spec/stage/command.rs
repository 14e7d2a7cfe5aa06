//! Stages of the kind `command`.
//!
//! Purpose: `run`, inputs, outputs and params of a command, and the placeholders of `run` against them.
//! Invariant: every placeholder of a command that comes out names something that the stage has; the
//! params of the pipeline that it names are its own.
//! Must not know: how placeholders are filled in.

use serde_json::Value;

use crate::protocol::Port;
use crate::spec::catalog::COMMAND;
use crate::spec::code::Code;
use crate::spec::command::{self, Space, Spot};
use crate::spec::diagnostic::{did_you_mean, list_names};
use crate::spec::document::node::{Data, Entry, Node};
use crate::spec::fields;
use crate::spec::stage::read::{Reader, kind_of};
use crate::spec::types::{Run, Sandbox, Span, Spanned, Stage, Work};

/// Whether the `run` of a command names something of a section, as a placeholder or as the environment
/// variable with its value; none when the stage is no command.
pub fn names(stage: &Node, section: &str, name: &str) -> Option<bool> {
    kind_of(stage).filter(|(kind, _)| *kind == COMMAND)?;
    let placeholder = format!("{{{section}.{name}}}");
    let variable = format!("KILN_{}_{name}", section.trim_end_matches('s').to_uppercase());
    let words = stage.get("run").map(fields::list).unwrap_or_default().iter().filter_map(Node::as_str);
    Some(words.into_iter().any(|word| word.contains(&placeholder) || has_word(word, &variable)))
}

/// Whether a text holds a name of a variable, and not only the start of a longer one.
fn has_word(text: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(name).any(|(start, _)| ends(&text[start + name.len()..]))
}

impl Reader<'_, '_, '_> {
    /// True when the stage is a command.
    pub(super) fn is_command(&self) -> bool {
        kind_of(self.node).is_some_and(|(kind, _)| kind == COMMAND)
    }

    /// What only commands have.
    pub(super) fn command(&mut self, stage: &mut Stage) {
        let inputs = self.section("inputs");
        let outputs = self.section("outputs");
        let params = self.section("params");
        for (entries, what) in [(inputs, "an input"), (outputs, "an output"), (params, "a parameter")] {
            for entry in entries.unwrap_or_default() {
                fields::check_name(&entry.key, what, self.context.out);
            }
        }
        (stage.inputs, stage.places) = self.references(inputs.unwrap_or_default());
        stage.input_ports = stage.inputs.keys().map(|name| port(name, "any")).collect();
        self.outputs(outputs.unwrap_or_default(), stage);
        for Entry { key, value } in params.unwrap_or_default() {
            stage.params.insert(key.text.clone(), text_of(value));
            self.shadow(&key.text);
        }
        let (run, span) = self.run().unwrap_or((Run::Exec(Vec::new()), Span::default()));
        let shell = self.shell(&run);
        self.placeholders((&run, span), &shell, [inputs, outputs, params], stage);
        self.check_params(stage);
        let (uses, cwd, sandbox) = (self.uses(), self.cwd(), self.sandbox());
        stage.any_platform = self.any_platform();
        if sandbox == Sandbox::Off {
            self.check_no_places(stage);
        }
        self.check_claims(stage, &uses);
        stage.work = Work::Command { run, shell, uses, cwd, sandbox };
    }

    /// Reports a parameter that no process can be given.
    fn check_params(&mut self, stage: &Stage) {
        let nul = |value: &Value| value.as_str().is_some_and(|text| text.contains('\0'));
        for (name, param) in stage.params.iter().filter(|(_, param)| nul(&param.value)) {
            let message = format!(
                "parameter `{name}` of {} holds a NUL byte, which no command can be given",
                self.owner
            );
            self.context.out.push(Code::Type, param.span, message);
        }
    }

    fn outputs(&mut self, entries: &[Entry], stage: &mut Stage) {
        for Entry { key, value } in entries {
            let what = format_args!("output `{}` of {}", key.text, self.owner);
            let out = &mut *self.context.out;
            let mut named = Some(value);
            if let Data::Map(inner) = &value.data {
                fields::only(inner, &["type", "path"], what, out);
                named = value.get("type");
                let path = value.get("path");
                let path = path.and_then(|p| fields::path_below(p, format_args!("`path` of {what}"), out));
                stage.output_paths.extend(path.map(|path| (key.text.clone(), path)));
            }
            let artifact_type = named.and_then(|node| self.context.catalog.artifact_type(node, what, out));
            stage.outputs.push(port(&key.text, artifact_type.as_deref().unwrap_or("any")));
        }
    }

    fn run(&mut self) -> Option<(Run, Span)> {
        let out = &mut *self.context.out;
        let Some(node) = self.node.get("run") else {
            if !self.meant.contains(&"run") {
                out.push(Code::MissingKey, self.name.span, format!("{} has no `run`", self.owner));
            }
            return None;
        };
        let run = match &node.data {
            Data::String(text) if !text.trim().is_empty() => Some(Run::Script(text.clone())),
            Data::Seq(items) if !items.is_empty() => {
                let words = items.iter().map(|item| item.scalar().map(|text| text.into_owned()));
                words.collect::<Option<_>>().map(Run::Exec)
            }
            _ => None,
        };
        let clean = run.filter(|run| match run {
            Run::Script(text) => !text.contains('\0'),
            Run::Exec(texts) => !texts[0].is_empty() && !texts.iter().any(|text| text.contains('\0')),
        });
        if clean.is_none() {
            let message = format!("`run` of {} must be a command line or a list of words", self.owner);
            out.push(Code::Type, node.span, message);
        }
        clean.map(|run| (run, node.span))
    }

    /// Checks what the command names, and takes the params of the pipeline that it names.
    fn placeholders(
        &mut self,
        (run, span): (&Run, Span),
        shell: &[String],
        has: [Option<&[Entry]>; 3],
        stage: &mut Stage,
    ) {
        let slots = match command::placeholders(run, shell) {
            Ok(slots) => slots,
            Err(error) => {
                let message = format!("`run` of {}: {error}{}", self.owner, at(run, error.spot));
                return self.context.out.push_hint(Code::Placeholder, span, message, error.hint());
            }
        };
        for slot in &slots {
            let (space, name) = (slot.space, slot.name.as_str());
            let entries = match space {
                Space::Inputs => has[0],
                Space::Outputs => has[1],
                Space::Params => has[2],
                Space::Checkpoint => continue,
            };
            // A section with an error may have had it.
            let Some(entries) = entries else { continue };
            if entries.iter().any(|e| e.key.text == name) {
                continue;
            }
            if space == Space::Params
                && let Some(shared) = self.context.shared.get_mut(name)
            {
                shared.taken = true;
                stage.params.insert(name.to_owned(), text_of(&shared.node));
                continue;
            }
            self.unknown_placeholder(space, name, span, entries);
        }
    }

    fn unknown_placeholder(&mut self, space: Space, name: &str, span: Span, entries: &[Entry]) {
        let word = space.word();
        let shared = self.context.shared.keys().filter(|_| space == Space::Params);
        let names: Vec<_> = entries.iter().map(|e| &e.key.text).chain(shared).map(String::as_str).collect();
        let message = format!(
            "`run` of {} names `{{{word}.{name}}}`; its {word}: {}",
            self.owner,
            list_names(names.iter().copied())
        );
        self.context.out.push_hint(Code::Placeholder, span, message, did_you_mean(name, names));
    }
}

/// Where in `run` something was found, as the end of a message; nothing for a single line or word.
fn at(run: &Run, spot: Spot) -> String {
    match run {
        Run::Script(text) if text.trim_end().contains('\n') => {
            format!(" (line {}, column {} of the script)", spot.line, spot.column)
        }
        Run::Exec(words) if words.len() > 1 => format!(" (word {} of the list)", spot.word + 1),
        _ => String::new(),
    }
}

fn text_of(node: &Node) -> Spanned<Value> {
    Spanned { value: Value::String(node.text()), span: node.span }
}

fn port(name: &str, artifact_type: &str) -> Port {
    Port {
        name: name.to_owned(),
        types: vec![artifact_type.to_owned()],
        optional: false,
        summary: String::new(),
    }
}
