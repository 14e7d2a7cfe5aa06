//! How to make an artifact again.
//!
//! Purpose: the arguments that name its stage, and whether the lock file has the key of its record.
//! Invariant: no path of this machine is in it: the pipeline file is named from the project root.
//! Must not know: how a card is written.

use std::path::Path;

use super::facts::{Gap, Reproduction};
use crate::cas::types::Action;
use crate::cli::args::{Device, PipelineArgs};
use crate::report::lockfile::LockFile;
use crate::spec::types::Pipeline;

/// How to make the outputs of a stage again.
pub fn of(
    pipeline: &Pipeline,
    args: &PipelineArgs,
    stage: &str,
    action: &Action,
    gaps: &mut Vec<Gap>,
) -> Reproduction {
    let file = from_root(pipeline);
    let lock = LockFile::of(pipeline.file());
    if lock.is_err() {
        gaps.push(Gap::new(stage, "the lock file cannot be used; `kiln lock check` says why"));
    }
    let lock = lock.ok().filter(|lock| lock.exists);
    let named = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut arguments = vec![file.clone(), stage.to_owned()];
    arguments.extend(args.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
    arguments.extend(args.unset.iter().flat_map(|unset| ["--unset".to_owned(), unset.clone()]));
    if args.device != Device::Auto {
        arguments.extend(["--device".to_owned(), args.device.name().to_owned()]);
    }
    Reproduction {
        file,
        arguments,
        locked: lock.as_ref().is_some_and(|lock| lock.keys().any(|key| key == action.key)),
        lock_file: lock.as_ref().and_then(|lock| named(&lock.path)),
    }
}

/// The pipeline file as it is named in the project root.
fn from_root(pipeline: &Pipeline) -> String {
    let file = std::path::absolute(pipeline.file()).unwrap_or_else(|_| pipeline.file().to_owned());
    let inside = file.strip_prefix(&pipeline.root).ok();
    let name = inside.or_else(|| file.file_name().map(Path::new)).unwrap_or(&file);
    name.to_string_lossy().into_owned()
}
