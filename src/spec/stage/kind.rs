//! Stages of a kind.
//!
//! Purpose: inputs and params of a stage against what its kind declares.
//! Invariant: a param that the stage does not set is the pipeline's or the default; one error in a param of
//! the pipeline is reported once and not for each stage.
//! Must not know: what any param means.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::protocol::Kind;
use crate::spec::code::Code;
use crate::spec::document::node::Entry;
use crate::spec::fields;
use crate::spec::params::{self, Checker};
use crate::spec::stage::read::{Reader, kind_of};
use crate::spec::types::{Span, Spanned, Stage, Work};

impl Reader<'_, '_, '_> {
    /// What only stages of a kind have.
    pub(super) fn kind(&mut self, provider: usize, kind: &Kind, stage: &mut Stage) {
        stage.work = Work::Kind { kind: kind.name.clone(), revision: kind.revision, provider };
        stage.input_ports.clone_from(&kind.inputs);
        stage.outputs.clone_from(&kind.outputs);
        if self.node.get("resources").and_then(|r| r.get("cpus")).is_none() {
            stage.resources.cpus = kind.cpus;
        }
        if let Some(entries) = self.section("inputs") {
            self.check_ports(entries, kind);
            stage.inputs = self.references(entries).0;
        }
        if let Some(entries) = self.section("params")
            && !self.context.endless.contains(&kind.name)
        {
            stage.params = self.kind_params(entries, kind);
        }
    }

    fn check_ports(&mut self, entries: &[Entry], kind: &Kind) {
        let out = &mut *self.context.out;
        let names: Vec<_> = kind.inputs.iter().map(|port| port.name.as_str()).collect();
        let has = |name: &str| entries.iter().any(|e| e.key.text == name);
        let mut meant = Vec::new();
        for Entry { key, .. } in entries.iter().filter(|e| !names.contains(&e.key.text.as_str())) {
            meant.extend(fields::unknown_key(key, &names, format_args!("{} has no input", self.owner), out));
        }
        for port in kind.inputs.iter().filter(|port| !port.optional && !has(&port.name)) {
            if !meant.contains(&port.name.as_str()) {
                let message = format!("{} needs the input `{}`", self.owner, port.name);
                let hint = format!("it takes: {}", port.types.join(" or "));
                out.push_hint(Code::MissingInput, self.name.span, message, Some(hint));
            }
        }
    }

    fn kind_params(&mut self, entries: &[Entry], kind: &Kind) -> BTreeMap<String, Spanned<Value>> {
        let mut checker = Checker::new(&kind.params, self.owner.to_string());
        let declared = checker.properties();
        let mut meant = Vec::new();
        let mut params = BTreeMap::new();
        for Entry { key, value } in entries {
            self.shadow(&key.text);
            let typed = match declared.and_then(|p| p.get(&key.text)).or_else(|| checker.extra()) {
                Some(schema) => checker.value(value, schema, &key.text),
                None if checker.elsewhere(&key.text).is_some() => {
                    let message = format!("{} has no parameter `{}`", self.owner, key.text);
                    let hint = checker.elsewhere(&key.text);
                    self.context.out.push_hint(Code::UnknownKey, key.span, message, hint);
                    None
                }
                None => {
                    let message = format_args!("{} has no parameter", self.owner);
                    let names = params::names(declared);
                    meant.extend(fields::unknown_key(key, &names, message, self.context.out));
                    None
                }
            };
            params.extend(typed.map(|typed| (key.text.clone(), Spanned { value: typed, span: value.span })));
        }
        let given = |name: &str| entries.iter().any(|e| e.key.text == name) || meant.contains(&name);
        for (name, schema) in declared.into_iter().flatten().filter(|(name, _)| !given(name)) {
            if let Some(value) = self.shared_or_default(name, schema, &mut checker) {
                params.insert(name.clone(), value);
            }
        }
        if checker.is_exhausted() {
            self.endless_schema(kind);
            return params;
        }
        for problem in checker.problems {
            self.context.out.push_hint(problem.code, problem.span, problem.message, problem.hint);
        }
        params
    }

    /// Reports, once for a kind, that checking its params does not come to an end.
    fn endless_schema(&mut self, kind: &Kind) {
        let span = kind_of(self.node).map_or(self.name.span, |(_, span)| span);
        let message = format!(
            "the schema of the parameters of kind `{}` refers to itself without end, or is too large to check; this is an error of its provider",
            kind.name
        );
        self.context.out.push(Code::Provider, span, message);
        self.context.endless.insert(kind.name.clone());
    }

    /// A param of the pipeline that the stage sets itself is not a useless one; but one that `--set` gave, and
    /// so stands nowhere, must change something.
    pub(super) fn shadow(&mut self, name: &str) {
        if let Some(shared) = self.context.shared.get_mut(name) {
            shared.taken |= shared.node.span.start.line != 0;
        }
    }

    /// The value of a param that the stage does not set: the pipeline's, else the default.
    fn shared_or_default<'s>(
        &mut self,
        name: &str,
        schema: &'s Value,
        checker: &mut Checker<'s>,
    ) -> Option<Spanned<Value>> {
        if let Some(shared) = self.context.shared.get_mut(name) {
            shared.taken = true;
            let before = checker.problems.len();
            let value = checker.value(&shared.node, schema, name);
            if checker.problems.len() > before {
                // One report of a shared param, not one a stage.
                if shared.reported {
                    checker.problems.truncate(before);
                }
                shared.reported = true;
            }
            return value.map(|value| Spanned { value, span: shared.node.span });
        }
        if checker.is_required(name) && schema.get("default").is_none() {
            let message = format!("{} needs the parameter `{name}`, which has no default", self.owner);
            self.context.out.push(Code::MissingParam, self.name.span, message);
            return None;
        }
        checker.default(schema, name).map(|value| Spanned { value, span: Span::default() })
    }
}
