//! `kiln exec`: the job of a stage, on its node.
//!
//! Purpose: opens the store of the node, and the remote by which the runner and the job talk, and runs the one stage.
//! Invariant: it is called by the script of a job and by nobody else; what it does it does for one key.
//! Must not know: how a stage runs.

use std::sync::Arc;

use crate::cas::Store;
use crate::cas::remote::{Access, Address, Remotes};
use crate::cas::trust::TrustPolicy;
use crate::cli::args::{Common, ExecArgs};
use crate::cli::remotes::config;
use crate::cli::{CliError, Exit};
use crate::executor::cluster::intent::is_submission;
use crate::executor::cluster::mail::Mail;
use crate::executor::cluster::node::{self, Call, Outcome};
use crate::spec::types::RemoteSpec;

/// Runs the command.
///
/// # Errors
/// The store or the remote cannot be opened, or the end of the job cannot be said.
pub fn run(common: &Common, args: &ExecArgs) -> Result<Exit, CliError> {
    let folder = common
        .store
        .as_ref()
        .ok_or_else(|| CliError::Call("a job names its store by `--store`".to_owned()))?;
    if !is_submission(&args.submission) {
        return Err(CliError::Call(format!(
            "`--submission {}` is no number of a submission",
            args.submission
        )));
    }
    std::fs::create_dir_all(folder).map_err(CliError::io(format!("make {}", folder.display())))?;
    let store = Arc::new(Store::open(folder)?);
    let user = config::read()?;
    let trust = TrustPolicy {
        keys: user.trust,
        demanded: user.demands_signatures || args.signed,
        signer: config::signing_key()?,
    };
    store.set_trust(trust);
    let remote = args.remote.as_deref().map(remote).transpose()?;
    if let Some(spec) = &remote
        && let Some(remotes) =
            Remotes::new(vec![config::open_one(spec)?]).map_err(CliError::io("start a thread for remotes"))?
    {
        store.share_with(remotes);
    }
    store.watch()?;
    let _in_use = store.share()?;
    let mail = match &remote {
        Some(spec) => Mail::in_remote(Arc::clone(&store), &spec.name, &args.key),
        None => Mail::in_store(&store, &args.key),
    };
    let call = Arc::new(Call {
        key: args.key,
        submission: args.submission.clone(),
        request: args.request,
        store,
        mail,
    });
    match node::run(&call).map_err(CliError::Failed)? {
        Outcome::Ok => Ok(Exit::Ok),
        Outcome::Failed => Ok(Exit::Failed),
        Outcome::Interrupted => Ok(Exit::Interrupted),
    }
}

/// `NAME=URL`.
fn remote(text: &str) -> Result<RemoteSpec, CliError> {
    let (name, url) =
        text.split_once('=').ok_or_else(|| CliError::Call("`--remote` takes NAME=URL".to_owned()))?;
    let address = Address::parse(url).map_err(|e| CliError::Call(e.to_string()))?;
    Ok(RemoteSpec { name: name.to_owned(), address, access: Access::ReadWrite, leases: true })
}
