//! Stages of the kind `command`.
//!
//! Purpose: `run`, `uses`, `outputs`, and the placeholders of `run` against what the stage has.
//! Invariant: every placeholder of a command that comes out names something that the stage has; the
//! params of the pipeline that it names are its own.
//! Must not know: how placeholders are filled in.

use crate::protocol::Port;
use crate::spec::command::{self, Space};
use crate::spec::diagnostic::{did_you_mean, list_names};
use crate::spec::node::{Data, Entry, Place};
use crate::spec::stage::Reader;
use crate::spec::types::{Spanned, Run, Sandbox, Stage, Work};
use crate::spec::{fields, source};

impl Reader<'_, '_, '_> {
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
        stage.inputs = self.references(inputs.unwrap_or_default());
        stage.input_ports = stage.inputs.keys().map(|name| port(name, "any")).collect();
        stage.outputs = self.outputs(outputs.unwrap_or_default());
        for Entry { key, value } in params.unwrap_or_default() {
            stage.params.insert(key.text.clone(), Spanned { value: value.to_json(), span: value.at.into() });
        }
        let run = self.run();
        if let Some((run, place)) = &run {
            self.placeholders(run, *place, [inputs, outputs, params], stage);
        }
        let run = run.map_or(Run::Exec(Vec::new()), |(run, _)| run);
        let shell = ["bash", "-eo", "pipefail"].map(str::to_owned).to_vec();
        let uses = self.uses();
        stage.work = Work::Command { run, shell, uses, cwd: None, sandbox: Sandbox::Folder };
    }

    fn outputs(&mut self, entries: &[Entry]) -> Vec<Port> {
        let mut outputs = Vec::new();
        for Entry { key, value } in entries {
            let what = format_args!("output `{}` of {}", key.text, self.owner);
            let artifact_type = source::artifact_type(value, what, self.context.out);
            outputs.push(port(&key.text, artifact_type.as_deref().unwrap_or("any")));
        }
        outputs
    }

    fn run(&mut self) -> Option<(Run, Place)> {
        let out = &mut *self.context.out;
        let Some(node) = self.node.get("run") else {
            if !self.meant.contains(&"run") {
                out.push("missing-key", self.name.place(), format!("{} has no `run`", self.owner));
            }
            return None;
        };
        let run = match &node.data {
            Data::String(text) if !text.trim().is_empty() => Some(Run::Script(text.clone())),
            Data::Seq(items) if !items.is_empty() => {
                items.iter().map(fields::scalar_text).collect::<Option<_>>().map(Run::Exec)
            }
            _ => None,
        };
        let clean = run.filter(|run| match run {
            Run::Script(text) => !text.contains('\0'),
            Run::Exec(texts) => !texts[0].is_empty() && !texts.iter().any(|text| text.contains('\0')),
        });
        if clean.is_none() {
            let message = format!("`run` of {} must be a command line or a list of words", self.owner);
            out.push("type", node.place(), message);
        }
        clean.map(|run| (run, node.place()))
    }

    /// Checks what the command names, and takes the params of the pipeline that it names.
    fn placeholders(&mut self, run: &Run, place: Place, has: [Option<&[Entry]>; 3], stage: &mut Stage) {
        let slots = match command::placeholders(run) {
            Ok(slots) => slots,
            Err(error) => {
                let message = format!("`run` of {}: {error}", self.owner);
                return self.context.out.push("placeholder", place, message);
            }
        };
        for (space, name) in slots {
            let entries = match space {
                Space::Inputs => has[0],
                Space::Outputs => has[1],
                Space::Params => has[2],
            };
            // A damaged section may have had it.
            let Some(entries) = entries else { continue };
            if entries.iter().any(|e| e.key.text == name) {
                continue;
            }
            if space == Space::Params
                && let Some(shared) = self.context.shared.get_mut(name)
            {
                shared.taken = true;
                let value = Spanned { value: shared.node.to_json(), span: shared.node.at.into() };
                stage.params.insert(name.to_owned(), value);
                continue;
            }
            self.unknown_placeholder(space, name, place, entries);
        }
    }

    fn unknown_placeholder(&mut self, space: Space, name: &str, place: Place, entries: &[Entry]) {
        let word = space.word();
        let shared = self.context.shared.keys().filter(|_| space == Space::Params);
        let names: Vec<_> = entries.iter().map(|e| &e.key.text).chain(shared).map(String::as_str).collect();
        let message = format!(
            "`run` of {} names `{{{word}.{name}}}`; its {word}: {}",
            self.owner,
            list_names(names.iter().copied())
        );
        self.context.out.push_hint("placeholder", place, message, did_you_mean(name, names));
    }

    fn uses(&mut self) -> Vec<Spanned<String>> {
        let Some(node) = self.node.get("uses") else { return Vec::new() };
        let what = format_args!("`uses` of {}", self.owner);
        let items = match &node.data {
            Data::Null => &[],
            Data::Seq(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let out = &mut *self.context.out;
        items
            .iter()
            .filter_map(|item| {
                fields::path(item, what, out).map(|text| Spanned { value: text.to_owned(), span: item.at.into() })
            })
            .collect()
    }
}

fn port(name: &str, artifact_type: &str) -> Port {
    Port {
        name: name.to_owned(),
        types: vec![artifact_type.to_owned()],
        optional: false,
        summary: String::new(),
    }
}
