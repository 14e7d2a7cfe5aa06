//! The local store: blobs, actions, runs, and what is known of files by their stat.
//!
//! Purpose: keep immutable artifacts by their digest, remember which work made which, and lend
//! each piece of work to one runner at a time.
//! Invariant: what is named is whole: bytes are synced before a name is given, blobs before the tree
//! that lists them, trees before the action that names them; every byte is verified before it is
//! believed. Nothing is written before something is to be kept.
//! Must not know: pipelines, plans, stages, providers.
//!
//! ```text
//! Store::open(root: &Path) -> Result<Store>               Send + Sync; writes nothing by itself
//! root(&self) -> &Path
//! identify(&self, path) -> Result<ArtifactRef>            a file or folder outside, by the stat cache
//! identify_glob(&self, base, files: &[PathBuf]) -> Result<ArtifactRef>
//! ingest(&self, path) -> Result<ArtifactRef>              moves a finished output in; path is gone after
//! is_whole(&self, &ArtifactRef) -> Result<bool>
//! input_path(&self, &ArtifactRef, dest) -> Result<PathBuf> symlinks to blobs at dest
//! link_glob(&self, base, files: &[PathBuf], dest) -> Result<PathBuf>  the same for files outside
//! tree(&self, &Digest) -> Result<Tree>
//! read(&self, &Digest, limit: u64) -> Result<Vec<u8>>
//! export(&self, &ArtifactRef, dest) -> Result<()>
//! action(&self, key: &Digest) -> Result<Option<Action>>
//! put_action(&self, &Action) -> Result<Put>               Put::{New, Same, Healed, Differs(Box<Action>)}
//! work(&self, key: &Digest) -> PathBuf
//! try_lock(&self, key, stage: &str) -> Result<Lock>       Lock::{Taken(KeyLock), HeldBy(Holder)}
//! lock(&self, key, stage: &str, keep_waiting: impl FnMut(&Holder) -> bool) -> Result<Option<KeyLock>>
//! KeyLock::inherited_by<R>(&self, spawn: impl FnOnce() -> R) -> R   children spawned inside keep the lock
//! flush(&self) -> Result<()>
//! runs(&self) -> Runs
//! Runs::begin(pipeline: &str, file: &str) -> Result<Run>; latest(pipeline) -> Result<Option<RunRecord>>;
//!   read(id) -> Result<Option<RunRecord>>; list() -> Result<Vec<String>>; last_keys(pipeline) -> Result<BTreeMap<String, Digest>>
//! Run::{id, folder, record() , event(&impl Serialize), log_path(stage), metrics_path(stage),
//!   remember(stage, key), write(&RunRecord)}
//! ```

pub mod types;
