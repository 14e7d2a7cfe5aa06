//! The kinds and artifact types that are there.
//!
//! Purpose: asks providers what they offer, checks the names in their answers, and finds kinds and artifact
//! types by name.
//! Invariant: a provider is asked only when the file wants a kind or an artifact type that nobody asked
//! before offers; the providers of the file come before the default one, in their order, and the first that
//! offers a kind is the one that runs it. Every name in an answer that is kept can be a part of a path.
//! Must not know: how a provider is started.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::protocol::{ARTIFACT_TYPES, Description, Kind, PROTOCOL, Port};
use crate::spec::code::Code;
use crate::spec::diagnostic::{Diagnostics, did_you_mean, list_names};
use crate::spec::document::node::{Data, Node};
use crate::spec::fields;
use crate::spec::load::Providers;
use crate::spec::types::Span;

/// The kind that needs no provider.
pub const COMMAND: &str = "command";

/// The artifact types that need no provider.
pub const CORE_TYPES: [&str; 3] = ["any", "report", "table"];

/// What the providers offer.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The index of the provider in `Pipeline::providers` and its answer.
    descriptions: Vec<(usize, Description)>,
    /// The known artifact types.
    types: BTreeSet<String>,
    /// True when some provider could not be asked: an unknown kind or type may be one of its.
    pub incomplete: bool,
}

/// What a file wants of the providers.
#[derive(Debug, Default)]
pub struct Wanted<'n> {
    /// Kinds, but for [`COMMAND`], and where they stand.
    pub kinds: Vec<(&'n str, Span)>,
    /// Artifact types and where they stand.
    pub types: Vec<(&'n str, Span)>,
}

impl Catalog {
    /// Asks the providers as far as the file needs it. `programs` are those of the file.
    pub fn gather(
        wanted: &Wanted<'_>,
        programs: &[(PathBuf, Span)],
        providers: &mut dyn Providers,
        out: &mut Diagnostics,
    ) -> Self {
        let mut catalog = Self { types: known_types(&[], false), ..Self::default() };
        if wanted.kinds.is_empty() && catalog.first_unknown_type(wanted).is_none() {
            return catalog;
        }
        for (index, (program, span)) in programs.iter().enumerate() {
            if let Err(message) = catalog.ask(index + 1, Some(program), providers) {
                catalog.report(*span, message, out);
            }
        }
        catalog.types = known_types(&catalog.descriptions, false);
        let unknown_kind = wanted.kinds.iter().find(|(kind, _)| catalog.find(kind).is_none()).copied();
        if unknown_kind.is_none() && catalog.first_unknown_type(wanted).is_none() {
            return catalog;
        }
        match (catalog.ask(0, None, providers), unknown_kind) {
            (Ok(()), _) => catalog.types = known_types(&catalog.descriptions, true),
            (Err(message), Some((_, span))) => catalog.report(span, message, out),
            // Nothing needs the default provider: the type is more likely misspelt than one of its.
            (Err(_), None) => {}
        }
        catalog
    }

    fn first_unknown_type<'n>(&self, wanted: &Wanted<'n>) -> Option<(&'n str, Span)> {
        wanted.types.iter().find(|(name, _)| !self.types.contains(*name)).copied()
    }

    fn ask(
        &mut self,
        index: usize,
        program: Option<&Path>,
        providers: &mut dyn Providers,
    ) -> Result<(), String> {
        let description = providers.describe(program)?;
        check(&description)?;
        self.descriptions.push((index, description));
        Ok(())
    }

    fn report(&mut self, span: Span, message: String, out: &mut Diagnostics) {
        self.incomplete = true;
        out.push(Code::Provider, span, message);
    }

    /// A kind and the index of its provider.
    pub fn find(&self, name: &str) -> Option<(usize, &Kind)> {
        self.descriptions
            .iter()
            .find_map(|(index, d)| d.kinds.iter().find(|kind| kind.name == name).map(|kind| (*index, kind)))
    }

    /// All kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.descriptions.iter().flat_map(|(_, d)| &d.kinds)
    }

    /// The names of all kinds, sorted, [`COMMAND`] among them.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.kinds().map(|kind| kind.name.as_str()).chain([COMMAND]).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The artifact type that a node names, if there is one.
    pub fn artifact_type(&self, node: &Node, what: impl Display, out: &mut Diagnostics) -> Option<String> {
        let text = fields::string(node, format_args!("the type of {what}"), out)?;
        if self.types.contains(text) || self.incomplete {
            return Some(text.to_owned());
        }
        let names = || self.types.iter().map(String::as_str);
        let hint =
            did_you_mean(text, names()).unwrap_or_else(|| format!("there is: {}", list_names(names())));
        let message = format!("{what} has the type `{text}`, which does not exist");
        out.push_hint(Code::UnknownType, node.span, message, Some(hint));
        None
    }
}

/// The core, and what the providers declare; one that does not declare, and the default one while it was not
/// asked, counts with the types of [`ARTIFACT_TYPES`].
fn known_types(descriptions: &[(usize, Description)], default_asked: bool) -> BTreeSet<String> {
    let declared = types_of(descriptions.iter().map(|(_, description)| description));
    let more = if default_asked { &[][..] } else { &ARTIFACT_TYPES[..] };
    declared.into_iter().chain(more.iter().map(|name| (*name).to_owned())).collect()
}

/// The core, and the artifact types of these providers.
pub fn types_of<'d>(descriptions: impl Iterator<Item = &'d Description>) -> BTreeSet<String> {
    let mut types: BTreeSet<String> = CORE_TYPES.map(str::to_owned).into();
    for description in descriptions {
        match description.types.as_slice() {
            [] => types.extend(ARTIFACT_TYPES.map(str::to_owned)),
            declared => types.extend(declared.iter().cloned()),
        }
    }
    types
}

/// Checks the version and the names of an answer: kinds, ports and artifact types become parts of paths.
fn check(description: &Description) -> Result<(), String> {
    let provider: String = description.provider.chars().take(100).collect();
    if description.protocol != PROTOCOL {
        let other = description.protocol;
        return Err(format!(
            "provider `{provider}` speaks version {other} of the protocol, and this kiln version {PROTOCOL}"
        ));
    }
    let bad = |what: String| Err(format!("provider `{provider}` {what}; this is an error of the provider"));
    let known = types_of([description].into_iter());
    if let Some(name) = known.iter().find(|name| !fields::is_name(name)) {
        return bad(format!("declares the artifact type `{name}`, which cannot be a name"));
    }
    let mut kinds = BTreeSet::new();
    for kind in &description.kinds {
        if !fields::is_name(&kind.name) || kind.name == COMMAND {
            return bad(format!("offers the kind `{}`, which cannot be the name of a kind", kind.name));
        }
        if !kinds.insert(&kind.name) {
            return bad(format!("offers the kind `{}` twice", kind.name));
        }
        for (ports, word) in [(&kind.inputs, "input"), (&kind.outputs, "output")] {
            if let Some(why) = bad_port(ports, word == "output", &known) {
                return bad(format!("offers the kind `{}` with the {word} {why}", kind.name));
            }
        }
    }
    Ok(())
}

/// What is wrong with some port, if anything is.
fn bad_port(ports: &[Port], outputs: bool, known: &BTreeSet<String>) -> Option<String> {
    let mut names = BTreeSet::new();
    ports.iter().find_map(|port| {
        let name = &port.name;
        if !fields::is_name(name) {
            return Some(format!("`{name}`, which cannot be a name"));
        }
        if !names.insert(name) {
            return Some(format!("`{name}` twice"));
        }
        if port.types.is_empty() || (outputs && port.types.len() > 1) {
            return Some(format!("`{name}`, which has {} artifact types", port.types.len()));
        }
        let unknown = port.types.iter().find(|t| !known.contains(*t))?;
        Some(format!("`{name}` of the artifact type `{unknown}`, which it does not declare"))
    })
}

/// The `providers` section: programs, as paths relative to the root or names to find on PATH.
pub fn programs(node: &Node, root: &Path, out: &mut Diagnostics) -> Vec<(PathBuf, Span)> {
    let items = match &node.data {
        Data::Null => &[],
        Data::Seq(items) => items.as_slice(),
        _ => {
            out.push(Code::Type, node.span, format!("`providers` must be a list, not {}", node.kind()));
            &[]
        }
    };
    items
        .iter()
        .filter_map(|item| {
            let text = fields::path(item, root, "a provider", out)?;
            let program = if text.contains('/') { root.join(text) } else { PathBuf::from(text) };
            Some((program, item.span))
        })
        .collect()
}
