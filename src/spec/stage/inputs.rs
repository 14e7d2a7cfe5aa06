//! What the inputs of a stage name.
//!
//! Purpose: an input as text (`stage`, `stage.output`, a source) or as `{ from, at }`.
//! Invariant: only commands have `at`.
//! Must not know: which other stages there are.

use std::collections::BTreeMap;
use std::fmt;

use crate::spec::code::Code;
use crate::spec::document::node::{Data, Entry, Node};
use crate::spec::fields;
use crate::spec::stage::read::Reader;
use crate::spec::types::{Reference, Spanned};

type Named<T> = BTreeMap<String, Spanned<T>>;

impl Reader<'_, '_, '_> {
    /// What each input names, and the places of those that have one.
    pub(super) fn references(&mut self, entries: &[Entry]) -> (Named<Reference>, Named<String>) {
        let (mut inputs, mut places) = (BTreeMap::new(), BTreeMap::new());
        for Entry { key, value } in entries {
            let owner = self.owner;
            let what = format_args!("input `{}` of {}", key.text, owner);
            let Some(from) = self.origin(value, what) else { continue };
            if let Some(at) = value.get("at").and_then(|at| self.place(at, what)) {
                places.insert(key.text.clone(), at);
            }
            let Some(text) = fields::string(from, what, self.context.out) else { continue };
            inputs.insert(key.text.clone(), Spanned { value: self.reference(text), span: from.span });
        }
        (inputs, places)
    }

    /// The node that says where an input comes from.
    fn origin<'v>(&mut self, value: &'v Node, what: fmt::Arguments<'_>) -> Option<&'v Node> {
        let Data::Map(entries) = &value.data else { return Some(value) };
        let out = &mut *self.context.out;
        let meant = fields::only(entries, &["from", "at"], what, out);
        let from = value.get("from");
        if from.is_none() && !meant.contains(&"from") {
            out.push(Code::MissingKey, value.span, format!("{what} has no `from`"));
        }
        from
    }

    fn place(&mut self, at: &Node, what: fmt::Arguments<'_>) -> Option<Spanned<String>> {
        if !self.is_command() {
            let message = format!("{what} has `at`, which only inputs of commands have");
            self.context.out.push(Code::UnknownKey, at.span, message);
            return None;
        }
        fields::path_below(at, format_args!("`at` of {what}"), self.context.out)
    }

    /// A source, or else a stage; `graph` knows whether there is one.
    fn reference(&self, text: &str) -> Reference {
        if self.context.sources.contains_key(text) {
            return Reference::Source(text.to_owned());
        }
        let (stage, output) = match text.split_once('.') {
            Some((stage, output)) => (stage, Some(output.to_owned())),
            None => (text, None),
        };
        Reference::Stage { stage: stage.to_owned(), output }
    }
}
