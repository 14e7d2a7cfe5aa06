//! The kinds that are there.
//!
//! Purpose: asks providers what they offer, and finds kinds by name.
//! Invariant: a provider is asked only when a stage wants a kind that nobody asked before offers;
//! the providers of the file come before the default one, in their order, and the first that offers
//! a kind is the one that runs it.
//! Must not know: how a provider is started.

use std::path::{Path, PathBuf};

use crate::protocol::{Description, Kind, PROTOCOL};
use crate::spec::diagnostic::Diagnostics;
use crate::spec::fields;
use crate::spec::load::Providers;
use crate::spec::node::{Data, Node, Place};

/// The kind that needs no provider.
pub const COMMAND: &str = "command";

/// What the providers offer.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The index of the provider in `Pipeline::providers` and its answer.
    descriptions: Vec<(usize, Description)>,
    /// True when some provider could not be asked: an unknown kind may be one of its.
    pub incomplete: bool,
}

impl Catalog {
    /// Asks the providers as far as the wanted kinds need it. `programs` are those of the file.
    pub fn gather(
        wanted: &[(&str, Place)],
        programs: &[(PathBuf, Place)],
        providers: &mut dyn Providers,
        out: &mut Diagnostics,
    ) -> Self {
        let mut catalog = Self::default();
        if wanted.is_empty() {
            return catalog;
        }
        for (index, (program, place)) in programs.iter().enumerate() {
            catalog.ask(index + 1, Some(program), *place, providers, out);
        }
        if let Some((_, place)) = wanted.iter().find(|(kind, _)| catalog.find(kind).is_none()) {
            catalog.ask(0, None, *place, providers, out);
        }
        catalog
    }

    fn ask(
        &mut self,
        index: usize,
        program: Option<&Path>,
        place: Place,
        providers: &mut dyn Providers,
        out: &mut Diagnostics,
    ) {
        let answer = providers.describe(program).and_then(|description| match description.protocol {
            PROTOCOL => Ok(description),
            other => Err(format!(
                "provider `{}` speaks version {other} of the protocol, and this kiln version {PROTOCOL}",
                description.provider
            )),
        });
        match answer {
            Ok(description) => self.descriptions.push((index, description)),
            Err(message) => {
                self.incomplete = true;
                out.push("provider", place, message);
            }
        }
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
}

/// The `providers` section: programs, as paths relative to the root or names to find on PATH.
pub fn programs(node: &Node, root: &Path, out: &mut Diagnostics) -> Vec<(PathBuf, Place)> {
    let items = match &node.data {
        Data::Null => &[],
        Data::Seq(items) => items.as_slice(),
        _ => {
            out.push("type", node.place(), format!("`providers` must be a list, not {}", node.kind()));
            &[]
        }
    };
    items
        .iter()
        .filter_map(|item| {
            let text = fields::path(item, "a provider", out)?;
            let program = if text.contains('/') { root.join(text) } else { PathBuf::from(text) };
            Some((program, item.place()))
        })
        .collect()
}
