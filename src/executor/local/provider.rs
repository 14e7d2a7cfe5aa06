//! An attempt at a stage of a provider.
//!
//! Purpose: folders of links to its inputs, its request, and the process that answers it.
//! Invariant: a provider reads its inputs where they lie, and so must not write to them; that is checked
//! when it has ended.
//! Must not know: what the provider computes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::environment::environment;
use super::{Prepared, made, readable};
use crate::cas::{How, StoreError};
use crate::executor::attempt::{AttemptError, Request};
use crate::executor::machine::{self, Claim};
use crate::executor::supervise::launch::Launch;
use crate::graph::Producer;
use crate::plan::SourceFiles;
use crate::protocol::StageRequest;
use crate::spec::command::Values;
use crate::spec::types::Work;

/// Makes an attempt ready.
///
/// # Errors
/// An input is missing, or the disk refuses.
pub fn prepare(request: &Request<'_>, claim: &Claim) -> Result<Prepared, AttemptError> {
    let (stage, scratch) = (request.stage(), request.scratch);
    let Work::Kind { kind, provider, .. } = &stage.work else {
        return Err(AttemptError::NoProvider(stage.kind().to_owned()));
    };
    let named = request.context.graph.pipeline().providers.get(*provider);
    let provider = named.and_then(|named| request.context.providers.get(named));
    let provider = provider.ok_or_else(|| AttemptError::NoProvider(kind.clone()))?;
    let io = |source| AttemptError::Io { what: "write the request of the stage", source };
    let outputs: BTreeMap<String, PathBuf> = stage
        .outputs
        .iter()
        .map(|port| (port.name.clone(), scratch.run().join("outputs").join(&port.name)))
        .collect();
    fs::create_dir_all(scratch.run().join("outputs")).map_err(io)?;
    let message = StageRequest {
        kind: kind.clone(),
        params: stage.params_json(),
        inputs: link_inputs(request, &scratch.run().join("inputs"))?,
        outputs: outputs.clone(),
        checkpoint: scratch.checkpoint(),
        threads: request.permit.threads,
        device: request.context.device.clone(),
        memory: match stage.resources.memory {
            0 => machine::memory(),
            declared => declared.min(machine::memory()),
        },
    };
    let json = serde_json::to_vec_pretty(&message).map_err(|e| io(e.into()))?;
    let environment = environment(request, Some(&provider.description), &Values::default(), claim)?;
    let launch = Launch {
        arguments: vec![provider.program.clone().into(), "run".into()],
        folder: request.context.graph.pipeline().root.clone(),
        environment: environment.variables,
        cores: Vec::new(),
        linger_ms: 0,
        confinement: None,
    };
    Ok(Prepared {
        launch,
        stdin: Some(readable(scratch.request(), &json).map_err(io)?),
        events: true,
        masks: environment.masks,
        made: made(outputs, Vec::new()),
        claim: Claim::default(),
    })
}

/// Makes the inputs readable below `folder`: artifacts as links into the store, sources where they are.
///
/// # Errors
/// An input is missing, or the disk refuses.
pub fn link_inputs(request: &Request<'_>, folder: &Path) -> Result<BTreeMap<String, PathBuf>, AttemptError> {
    let (context, mut paths) = (request.context, BTreeMap::new());
    for input in context.graph.inputs(request.job.stage) {
        let Some(artifact) = request.job.inputs.get(input.name) else { continue };
        // Of the name of a file a stage learns no more than its key has.
        let ending = match artifact.tree {
            false => request.stage().endings.get(input.name).map_or("", String::as_str),
            true => "",
        };
        let dest = folder.join(format!("{}{ending}", input.name));
        let path = match input.from {
            Producer::Stage { .. } => {
                let linked = context.store.materialize(artifact, &dest, How::Links);
                linked.map_err(|e| missing(input.name, e))?;
                dest
            }
            Producer::Source(name) => match context.planner.sources().files(name)? {
                SourceFiles::Path(path) => std::path::absolute(&path).unwrap_or(path),
                SourceFiles::Glob { base, files } => {
                    link_files(&base, &files, &dest)
                        .map_err(|source| AttemptError::Io { what: "link the files of a source", source })?;
                    dest
                }
            },
        };
        paths.insert(input.name.to_owned(), path);
    }
    Ok(paths)
}

/// A folder of links to these files, by their paths relative to `base`.
fn link_files(base: &Path, files: &[PathBuf], dest: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dest)?;
    for file in files {
        let link = dest.join(file.strip_prefix(base).unwrap_or(file));
        link.parent().map_or(Ok(()), fs::create_dir_all)?;
        std::os::unix::fs::symlink(std::path::absolute(file)?, link)?;
    }
    Ok(())
}

/// An input that is not intact is made again; anything else is an error of the disk.
pub fn missing(input: &str, error: StoreError) -> AttemptError {
    match error {
        StoreError::NotIntact(_) => AttemptError::InputMissing { input: input.to_owned() },
        other => AttemptError::Store(other),
    }
}
