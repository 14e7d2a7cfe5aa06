//! The links below `out/`, where people find artifacts.
//!
//! Purpose: `out/<pipeline>/<stage>/<output>` in the folder of the store is a link to the newest artifact of
//! each output, which is a file or a folder.
//! Invariant: a link is replaced in one step; links are relative, so that they are right in a copy of the project;
//! Kiln itself never reads these links. Executable files are copies, and one with other bytes is made anew.
//! Must not know: how an artifact was made.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cas::types::{ArtifactRef, TreeFile};
use crate::cas::{How, Ignore, Store, StoreError};
use crate::digest::Digest;
use crate::sched::{Event, Reporter};
use crate::state::StageOutcome;

/// The folder below the store's.
const OUT: &str = "out";
/// Folders of links to artifacts, by digest.
const VIEW: &str = "view";

/// Why an artifact cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused it.
    #[error("cannot link {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// Updates the links of the stages of one pipeline as they finish.
pub struct Links<'a> {
    store: &'a Store,
    pipeline: &'a str,
}

impl<'a> Links<'a> {
    /// The links of this pipeline.
    pub fn new(store: &'a Store, pipeline: &'a str) -> Self {
        Self { store, pipeline }
    }
}

impl Reporter for Links<'_> {
    fn on_event(&mut self, event: &Event) {
        let Event::StageFinished(report) = event else { return };
        for (output, artifact) in &report.outputs {
            // What a remote has and nobody here reads is not here.
            if report.outcome == StageOutcome::Fetched && !self.store.blob(&artifact.digest).exists() {
                continue;
            }
            if let Err(e) = link_output(self.store, self.pipeline, &report.name, output, artifact) {
                tracing::warn!(stage = report.name, output, "{e}");
            }
        }
    }
}

/// Makes the link of an output lead to this artifact, which the store has, and returns the path of the link.
///
/// # Errors
/// A folder is not intact, or the disk refuses.
pub fn link_output(
    store: &Store,
    pipeline: &str,
    stage: &str,
    output: &str,
    artifact: &ArtifactRef,
) -> Result<PathBuf, LinkError> {
    let folder = folder(store, pipeline, stage);
    let link = folder.join(plain(output));
    // A blob is never executable. That it is there is for the store to know; a view is ours, with its copies.
    let has_view = artifact.tree || artifact.executable;
    let target = if has_view { view(store, artifact) } else { store.blob(&artifact.digest) };
    if leads(store, &link, &target) && (!has_view || link.exists() && has_copies(store, artifact, &target)) {
        return Ok(link);
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| LinkError::Io { path, source }
    };
    if has_view {
        readable(store, artifact)?;
    }
    let target = store.from_inside(&link, &target);
    let made = symlink(&target, &link).or_else(|e| match e.kind() {
        io::ErrorKind::NotFound => fs::create_dir_all(&folder).and_then(|()| symlink(&target, &link)),
        _ => Err(e),
    });
    match made {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map(|()| link.clone()).map_err(io(&link)),
    }
    let fresh = folder.join(fresh_name());
    symlink(&target, &fresh).map_err(io(&fresh))?;
    if fs::symlink_metadata(&link).is_ok_and(|meta| meta.is_dir()) {
        // Somebody replaced our link by a folder.
        clear(&link).map_err(io(&link))?;
    }
    fs::rename(&fresh, &link).map_err(io(&link))?;
    Ok(link)
}

fn folder(store: &Store, pipeline: &str, stage: &str) -> PathBuf {
    store.root().join(OUT).join(plain(pipeline)).join(plain(stage))
}

/// The place of an artifact below `view`: files of equal bytes may differ in the executable bit.
fn view(store: &Store, artifact: &ArtifactRef) -> PathBuf {
    let bit = if artifact.executable && !artifact.tree { "-x" } else { "" };
    store.root().join(VIEW).join(format!("{}{bit}", artifact.digest))
}

/// A path where an artifact can be read, below `view` in the folder of the store; it depends on the artifact
/// alone.
///
/// # Errors
/// The artifact is not intact, or the disk refuses.
pub fn readable(store: &Store, artifact: &ArtifactRef) -> Result<PathBuf, LinkError> {
    let (views, place) = (store.root().join(VIEW), view(store, artifact));
    if is_complete(store, artifact, &place) {
        return Ok(place);
    }
    let fresh = views.join(fresh_name());
    store.materialize(artifact, &fresh, How::RelativeLinks).inspect_err(|_| _ = clear(&fresh))?;
    let _ = clear(&place);
    match fs::rename(&fresh, &place) {
        // Another runner made the same view in the meantime.
        Err(_) if place.exists() => clear(&fresh),
        done => done,
    }
    .map_err(|source| LinkError::Io { path: place.clone(), source })?;
    Ok(place)
}

fn clear(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Whether all files of an artifact are there: links to blobs, and copies of what is executable.
fn is_complete(store: &Store, artifact: &ArtifactRef, place: &Path) -> bool {
    let is_there = |path: &Path, digest: &Digest, executable: bool| match executable {
        true => is_copy(store, path, digest),
        false => leads(store, path, &store.blob(digest)) && path.exists(),
    };
    if !artifact.tree {
        return is_there(place, &artifact.digest, artifact.executable);
    }
    let tree = place.is_dir().then(|| store.tree(&artifact.digest).ok()).flatten();
    let is_there = |file: &TreeFile| is_there(&place.join(&file.path), &file.digest, file.executable);
    tree.is_some_and(|tree| tree.files.iter().all(is_there))
}

/// Whether the executable files of an artifact are there, each with its bytes.
fn has_copies(store: &Store, artifact: &ArtifactRef, place: &Path) -> bool {
    if !artifact.tree {
        return is_copy(store, place, &artifact.digest);
    }
    let is_right =
        |file: &TreeFile| !file.executable || is_copy(store, &place.join(&file.path), &file.digest);
    store.tree(&artifact.digest).is_ok_and(|tree| tree.files.iter().all(is_right))
}

/// Whether this is a file with these bytes. It is read only when its stat is not the one recorded.
fn is_copy(store: &Store, path: &Path, digest: &Digest) -> bool {
    let found = fs::symlink_metadata(path).ok().filter(|meta| meta.is_file());
    found
        .and_then(|_| store.identify(path, &Ignore::none()).ok())
        .is_some_and(|found| found.digest == *digest)
}

/// Whether a link is ours to this place in the folder of the store.
fn leads(store: &Store, link: &Path, target: &Path) -> bool {
    fs::read_link(link).is_ok_and(|found| found == store.from_inside(link, target))
}

/// A name as one component of a path.
fn plain(name: &str) -> String {
    let name: String = name.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name }
}

fn fresh_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(".new-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingested(store: &Store, folder: &Path, name: &str, bytes: &str) -> ArtifactRef {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        store.ingest(&folder.join(name.split('/').next().unwrap())).unwrap()
    }

    #[test]
    fn an_output_is_found_by_its_name_and_follows_the_newest_artifact() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let old = ingested(&store, folder.path(), "a", "old");
        let new = ingested(&store, folder.path(), "b", "new");
        let link = link_output(&store, "p", "s", "o", &old).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "old");
        assert_eq!(link_output(&store, "p", "s", "o", &new).unwrap(), link);
        assert_eq!(fs::read_to_string(&link).unwrap(), "new");
        assert!(link.ends_with("out/p/s/o"));
    }

    #[test]
    fn a_program_stays_executable_beside_a_plain_file_of_the_same_bytes() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let plain = ingested(&store, folder.path(), "a", "echo");
        fs::write(folder.path().join("b"), "echo").unwrap();
        fs::set_permissions(folder.path().join("b"), fs::Permissions::from_mode(0o755)).unwrap();
        let program = store.ingest(&folder.path().join("b")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o111;
        for _ in 0..2 {
            let programs = [link_output(&store, "p", "s", "program", &program), readable(&store, &program)];
            let plains = [link_output(&store, "p", "s", "plain", &plain), readable(&store, &plain)];
            for path in programs {
                assert_eq!(mode(&path.unwrap()), 0o111);
            }
            for path in plains {
                assert_eq!(mode(&path.unwrap()), 0);
            }
        }
    }

    #[test]
    fn a_folder_is_found_by_its_name_and_made_whole_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let tree = ingested(&store, folder.path(), "d/x/y", "deep");
        let link = link_output(&store, "p", "s", "o", &tree).unwrap();
        assert_eq!(fs::read_to_string(link.join("x/y")).unwrap(), "deep");
        fs::remove_file(fs::canonicalize(&link).unwrap().join("x/y")).unwrap();
        assert_eq!(fs::read_to_string(readable(&store, &tree).unwrap().join("x/y")).unwrap(), "deep");
    }

    #[test]
    fn a_copy_of_a_program_that_somebody_changed_is_made_anew() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        for name in ["d/tool", "tool"] {
            fs::write(folder.path().join(name), "right").unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (name, below) in [("d", Some("tool")), ("tool", None)] {
            let artifact = store.ingest(&folder.path().join(name)).unwrap();
            let copy = |place: PathBuf| below.map_or(place.clone(), |below| place.join(below));
            let makers: [&dyn Fn() -> PathBuf; 2] = [&|| readable(&store, &artifact).unwrap(), &|| {
                link_output(&store, "p", "s", name, &artifact).unwrap()
            }];
            for make in makers {
                fs::write(copy(make()), "wrong").unwrap();
                assert_eq!(fs::read_to_string(copy(make())).unwrap(), "right", "{name}");
            }
        }
    }

    #[test]
    fn names_cannot_climb() {
        assert_eq!(plain("../../etc"), "_.._.._etc");
        assert_eq!(plain(""), "_");
    }
}
