//! Which remotes there are, and whose records count.
//!
//! Purpose: the remotes of the pipeline, of the user's file and of `KILN_REMOTES`, in that order of use; the keys of
//! the user.
//! Invariant: a remote that only the pipeline names is read and never written; an entry of the user's file with its
//! name or its URL says otherwise.
//! Must not know: what a remote is used for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cas::disk;
use crate::cas::remote::{Access, Address, Remote, Remotes};
use crate::cas::trust::{KeyError, PrivateKey, TrustPolicy};
use crate::cli::CliError;
use crate::cli::args::Common;
use crate::spec::remotes::{UserFile, read_user_file};
use crate::spec::types::{Pipeline, RemoteSpec};

/// The variable with more remotes, as URLs with commas or blanks between them.
const REMOTES: &str = "KILN_REMOTES";
/// The variable with the path of the key that signs.
const SIGNING_KEY: &str = "KILN_SIGNING_KEY";
/// The head of a file that `kiln remote` or `kiln key` writes.
const HEAD: &str = "# Remotes and trusted keys of yours; `kiln remote` and `kiln key` write this file, without your comments.\n";
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

/// Opens the remotes of a pipeline; none when there are none, or when none are to be used. One that cannot be opened
/// with what the environment says is left out, with a warning: it stops nothing that goes on without it.
///
/// # Errors
/// The user's file is wrong.
pub fn open(pipeline: &Pipeline, common: &Common) -> Result<Option<Remotes>, CliError> {
    if common.offline {
        return Ok(None);
    }
    let usable = |known: Known| match (common.no_cache_read, known.spec.access) {
        (false, _) => Some(known.spec),
        // Nothing is taken from it, and what is sent there is sent as before.
        (true, Access::ReadWrite | Access::Write) => Some(RemoteSpec { access: Access::Write, ..known.spec }),
        (true, Access::Read) => None,
    };
    let opened = known(&pipeline.remotes)?.into_iter().filter_map(usable);
    let or_warn = |spec: RemoteSpec| match open_one(&spec) {
        Ok(remote) => Some(remote),
        Err(error) => {
            tracing::warn!("{error}; kiln goes on without it");
            None
        }
    };
    Remotes::new(opened.filter_map(or_warn).collect()).map_err(CliError::io("start a thread for remotes"))
}

/// Opens one remote.
///
/// # Errors
/// Something in the environment is missing or wrong.
pub fn open_one(spec: &RemoteSpec) -> Result<Remote, CliError> {
    let opened = Remote::open(&spec.name, spec.address.clone(), spec.access);
    let remote = opened.map_err(|e| CliError::Call(e.to_string()))?;
    Ok(if spec.leases { remote } else { remote.without_leases() })
}

/// All remotes, in their order of use.
///
/// # Errors
/// The user's file or the variable is wrong.
pub fn known(pipeline: &[RemoteSpec]) -> Result<Vec<Known>, CliError> {
    let named = |spec: &RemoteSpec| Known { spec: spec.clone(), from: "pipeline" };
    let mut all: Vec<_> = pipeline.iter().map(named).collect();
    let own = read()?.remotes.into_iter().map(|spec| Known { spec, from: "user" });
    for known in own.chain(environment()?) {
        let same =
            |other: &Known| other.spec.name == known.spec.name || other.spec.address == known.spec.address;
        // It takes the place of the first one, and one name means one remote.
        let place = all.iter().position(same).unwrap_or(all.len());
        all.retain(|other| !same(other));
        all.insert(place, known);
    }
    Ok(all)
}

/// The user's file; empty when there is none.
///
/// # Errors
/// It is wrong, or cannot be read.
pub fn read() -> Result<UserFile, CliError> {
    let Some(file) = user_file() else { return Ok(UserFile::default()) };
    let text = match fs::read_to_string(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(UserFile::default()),
        text => text.map_err(CliError::io(format!("read {}", file.display())))?,
    };
    read_user_file(&file, &text).map_err(CliError::Pipeline)
}

/// Changes the user's file; gives its path and what is in it now. One at a time does.
///
/// # Errors
/// There is no home folder, the file is wrong, or the disk refuses.
pub fn edit(
    change: impl FnOnce(&mut UserFile) -> Result<(), CliError>,
) -> Result<(PathBuf, UserFile), CliError> {
    let file = user_file()
        .ok_or_else(|| CliError::Call("there is no home folder; name a file by KILN_CONFIG".into()))?;
    let lock = || {
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        let lock = fs::File::create(file.with_extension("lock"))?;
        lock.lock().map(|()| lock)
    };
    let _lock = lock().map_err(CliError::io(format!("lock {}", file.display())))?;
    let mut user = read()?;
    change(&mut user)?;
    write(&file, &user)?;
    Ok((file, user))
}

fn write(file: &Path, user: &UserFile) -> Result<(), CliError> {
    let text = HEAD.to_owned() + &user.to_text();
    // What is written can be read.
    read_user_file(file, &text).map_err(CliError::Pipeline)?;
    disk::replace(file, text.as_bytes()).map_err(CliError::io(format!("write {}", file.display())))
}

/// Whose records count for a pipeline, and the key that signs what is made here.
///
/// # Errors
/// The user's file or the signing key is wrong.
pub fn trust(pipeline: &Pipeline) -> Result<TrustPolicy, CliError> {
    let user = read()?;
    let demanded = user.demands_signatures || pipeline.demands_signatures;
    Ok(TrustPolicy { keys: user.trust, demanded, signer: signing_key()? })
}

/// The key that signs: that of `KILN_SIGNING_KEY`, else `keys/default.pem` beside the user's file; none without one.
///
/// # Errors
/// The file holds no key, or cannot be read.
pub fn signing_key() -> Result<Option<PrivateKey>, CliError> {
    let wrong = |e: KeyError| CliError::Call(e.to_string());
    if let Some(path) = std::env::var_os(SIGNING_KEY).filter(|path| !path.is_empty()) {
        let named = |e: KeyError| CliError::Call(format!("{SIGNING_KEY}: {e}"));
        return PrivateKey::load(Path::new(&path)).map(Some).map_err(named);
    }
    match key_file("default").filter(|file| file.exists()) {
        Some(file) => PrivateKey::load(&file).map(Some).map_err(wrong),
        None => Ok(None),
    }
}

/// Where a private key of this name lies.
pub fn key_file(name: &str) -> Option<PathBuf> {
    Some(user_file()?.with_file_name("keys").join(format!("{name}.pem")))
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
        let spec = RemoteSpec { name, address, access: Access::ReadWrite, leases: true };
        Ok(Known { spec, from: "environment" })
    };
    urls.enumerate().map(one).collect()
}
