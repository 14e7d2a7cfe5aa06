//! Which remotes there are.
//!
//! Purpose: those of the pipeline, of the user's file and of `KILN_REMOTES`, in that order of use.
//! Invariant: a remote that only the pipeline names is read and never written; an entry of the user's file with its
//! name or its URL says otherwise.
//! Must not know: what a remote is used for.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::cas::remote::{Access, Address, Remote, Remotes};
use crate::cli::CliError;
use crate::cli::args::Common;
use crate::spec::remotes::read_user_file;
use crate::spec::types::{Pipeline, RemoteSpec};

/// The variable with more remotes, as URLs with commas or blanks between them.
const REMOTES: &str = "KILN_REMOTES";
/// The variable with the path of the user's file.
const CONFIG: &str = "KILN_CONFIG";

/// A remote, and who names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Its name, where it is and what it is used for.
    pub spec: RemoteSpec,
    /// `pipeline`, `user` or `environment`.
    pub from: &'static str,
}

/// Opens the remotes of a pipeline; none when there are none, or when none are to be used.
///
/// # Errors
/// The user's file is wrong, or a remote cannot be opened with what the environment says.
pub fn open(pipeline: &Pipeline, common: &Common) -> Result<Option<Remotes>, CliError> {
    if common.offline {
        return Ok(None);
    }
    let opened = known(&pipeline.remotes)?.into_iter().map(|known| open_one(&known.spec));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    Remotes::new(opened).map_err(CliError::io("start a thread for remotes"))
}

/// Opens one remote.
///
/// # Errors
/// Something in the environment is missing or wrong.
pub fn open_one(spec: &RemoteSpec) -> Result<Remote, CliError> {
    Remote::open(&spec.name, spec.address.clone(), spec.access).map_err(|e| CliError::Call(e.to_string()))
}

/// All remotes, in their order of use.
///
/// # Errors
/// The user's file or the variable is wrong.
pub fn known(pipeline: &[RemoteSpec]) -> Result<Vec<Known>, CliError> {
    let named = |spec: &RemoteSpec| Known { spec: spec.clone(), from: "pipeline" };
    let mut all: Vec<_> = pipeline.iter().map(named).collect();
    let own = user_remotes()?.into_iter().map(|spec| Known { spec, from: "user" });
    for known in own.chain(environment()?) {
        let same = |other: &&mut Known| {
            other.spec.name == known.spec.name || other.spec.address == known.spec.address
        };
        match all.iter_mut().find(same) {
            Some(other) => *other = known,
            None => all.push(known),
        }
    }
    Ok(all)
}

/// The remotes of the user's file; none when there is no file.
///
/// # Errors
/// It is wrong, or cannot be read.
pub fn user_remotes() -> Result<Vec<RemoteSpec>, CliError> {
    let Some(file) = user_file() else { return Ok(Vec::new()) };
    let text = match fs::read_to_string(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(CliError::io(format!("read {}", file.display())))?,
    };
    read_user_file(&file, &text).map_err(CliError::Pipeline)
}

/// The user's file: `KILN_CONFIG`, or `kiln/config.yaml` below `XDG_CONFIG_HOME` or `~/.config`.
pub fn user_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(CONFIG).or_else(|| {
        let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
        Some(folder.join("kiln/config.yaml"))
    })
}

fn environment() -> Result<Vec<Known>, CliError> {
    let text = std::env::var(REMOTES).unwrap_or_default();
    let urls = text.split([',', ' ', '\n']).filter(|url| !url.is_empty());
    let one = |(index, url): (usize, &str)| {
        let address = Address::parse(url).map_err(|e| CliError::Call(format!("{REMOTES}: {e}")))?;
        let name = if index == 0 { "env".to_owned() } else { format!("env-{}", index + 1) };
        let spec = RemoteSpec { name, address, access: Access::ReadWrite };
        Ok(Known { spec, from: "environment" })
    };
    urls.enumerate().map(one).collect()
}
