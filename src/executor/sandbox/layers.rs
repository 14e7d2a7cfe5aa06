//! What is hidden and what is shown, as a list from the root to the leaves.
//!
//! Purpose: one plan for both methods, for every way in which project, store and the shown folders can lie
//! inside of each other.
//! Invariant: paths are resolved; a layer stands after those around it and differs from the nearest of them.
//! Must not know: how a folder is hidden.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::SandboxError;
use super::resolve::{Link, resolve};
use super::strict::Strict;

/// What a command may do below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// What it could do before.
    ReadWrite,
    /// Read and execute.
    ReadOnly,
    /// Nothing.
    Hidden,
}

/// From this path on, this access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub path: PathBuf,
    pub access: Access,
}

/// The plan of a sandbox. Outside of all layers everything stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layers {
    /// Outer ones first.
    pub list: Vec<Layer>,
    /// Links that lie in hidden folders and are needed to reach what is shown.
    pub links: Vec<Link>,
}

impl Layers {
    /// The plan for one command.
    pub fn of(strict: &Strict) -> Result<Self, SandboxError> {
        let mut links = Vec::new();
        let mut wanted = BTreeMap::new();
        for path in &strict.readable {
            if let Ok((path, on_the_way)) = resolve(path) {
                links.extend(on_the_way);
                wanted.insert(path, Access::ReadOnly);
            }
        }
        let required = [
            ("project", &strict.project, Access::Hidden),
            ("store", &strict.store, Access::Hidden),
            ("execution folder", &strict.execution, Access::ReadWrite),
            ("checkpoint folder", &strict.checkpoint, Access::ReadWrite),
            ("temporary folder", &strict.tmp, Access::ReadWrite),
        ];
        for (what, path, access) in required {
            let (path, on_the_way) = resolve(path).map_err(|source| SandboxError::Unresolved {
                what,
                path: path.clone(),
                source,
            })?;
            if path == Path::new("/") {
                return Err(SandboxError::WholeSystem { what });
            }
            links.extend(on_the_way);
            wanted.insert(path, access);
        }
        Ok(Self::arranged(wanted, links))
    }

    fn arranged(wanted: BTreeMap<PathBuf, Access>, links: Vec<Link>) -> Self {
        let mut layers = Self::default();
        // The order of paths puts a folder before what is in it.
        for (path, access) in wanted {
            let needed = match (layers.access(&path), access) {
                (around, access) if around == access => false,
                // A readable folder inside of one that may be written stays as that one is.
                (Access::ReadWrite, Access::ReadOnly) => false,
                _ => true,
            };
            if needed {
                layers.list.push(Layer { path, access });
            }
        }
        for link in links {
            if layers.access(&link.path) == Access::Hidden && !layers.links.contains(&link) {
                layers.links.push(link);
            }
        }
        layers
    }

    /// The innermost layer around a path, or at it.
    pub fn around(&self, path: &Path) -> Option<&Layer> {
        self.list.iter().rev().find(|layer| path.starts_with(&layer.path))
    }

    /// What may be done at a path.
    pub fn access(&self, path: &Path) -> Access {
        self.around(path).map_or(Access::ReadWrite, |layer| layer.access)
    }

    /// The layers that begin below a path.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Layer> {
        self.list.iter().filter(move |layer| layer.path != path && layer.path.starts_with(path))
    }
}
