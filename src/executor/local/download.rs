//! An attempt at a source that lies elsewhere.
//!
//! Purpose: the request to this same program, run as a process of its own, to bring the bytes.
//! Invariant: it gets the whole environment of the caller, for credentials, proxies and endpoints stand there; no
//! command of the pipeline does.
//! Must not know: how bytes are brought.

use std::collections::BTreeMap;
use std::fs;

use super::{Prepared, made, readable};
use crate::executor::attempt::{AttemptError, Request};
use crate::executor::download::{self, DOWNLOADER};
use crate::executor::log::Masks;
use crate::executor::machine::Claim;
use crate::executor::supervise::launch::Launch;
use crate::spec::types::Download;

/// Makes an attempt ready.
///
/// # Errors
/// The disk refuses.
pub fn prepare(request: &Request<'_>, download: &Download) -> Result<Prepared, AttemptError> {
    let io = |source| AttemptError::Io { what: "write the request of the download", source };
    let scratch = request.scratch;
    let folder = scratch.run().join("outputs");
    fs::create_dir_all(&folder).map_err(io)?;
    let outputs: BTreeMap<_, _> =
        request.stage().outputs.iter().map(|port| (port.name.clone(), folder.join(&port.name))).collect();
    let message = download::Request {
        download: download.clone(),
        output: outputs.values().next().cloned().unwrap_or_default(),
        partial: scratch.checkpoint(),
    };
    let json = serde_json::to_vec(&message).map_err(|e| io(e.into()))?;
    let program = std::env::current_exe().map_err(io)?;
    let caller = request.context.caller.iter();
    let launch = Launch {
        arguments: vec![program.into_os_string().into(), DOWNLOADER.into()],
        folder: scratch.run(),
        environment: caller.map(|(name, value)| (name.clone().into(), value.clone().into())).collect(),
        cores: Vec::new(),
        linger_ms: 0,
        confinement: None,
    };
    Ok(Prepared {
        launch,
        stdin: Some(readable(scratch.request(), &json).map_err(io)?),
        events: true,
        masks: Masks::default(),
        made: made(outputs, Vec::new()),
        claim: Claim::default(),
    })
}
