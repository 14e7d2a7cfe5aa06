//! The programs that provide stage kinds.
//!
//! Purpose: find them, and ask each what it offers; the answer is kept in the store's cache by the
//! program's digest.
//! Invariant: a program is started only when its answer is not known for these very bytes and this
//! environment; what it answers is bounded in time and size.
//! Must not know: which kinds there are, how a stage is run.
//!
//! The default program is, in this order: what KILN_PROVIDER names, `kiln-stages` beside the `kiln`
//! binary, `kiln-stages` on PATH. A pipeline names more under `providers:`. Only the program's own
//! bytes count: a script that imports others must bump its kinds' revisions as any provider must,
//! and its description is read anew when the script itself changes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::environment;
use crate::digest::{Digest, canonical_json};
use crate::plan::ProviderFacts;
use crate::protocol::{Description, PROTOCOL};
use crate::spec;
use crate::cas::{Ignore, Store};

/// The default provider's name.
pub const DEFAULT: &str = "kiln-stages";
/// The variable that names another default provider.
pub const VARIABLE: &str = "KILN_PROVIDER";
/// How long a provider may think about what it offers.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const MOST_BYTES: u64 = 16 << 20;
/// The variables on which an answer may depend beside the program: they say which numerics are there.
const SURROUNDINGS: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LIBTORCH"];

/// What exit code 127 means: the system's loader ends a program so.
pub const LIBRARY_GONE: &str = "a library that it needs is gone; `make build` brings back ours";

/// Why a provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The default one is nowhere.
    #[error(
        "the worker `{DEFAULT}` is missing; build it with `cargo build --release -p {DEFAULT}`, put it \
         beside `kiln` or on PATH, or name another one with {VARIABLE}"
    )]
    NoDefault,
    /// A named one is nowhere.
    #[error("the provider {} is missing; correct its path, or put it on PATH", .0.display())]
    Missing(PathBuf),
    /// It is there and may not be executed.
    #[error("the provider {} may not be executed; `chmod +x` it", .0.display())]
    NotExecutable(PathBuf),
    /// The machine refused something.
    #[error("cannot {what} the provider {}: {source}", program.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The program.
        program: PathBuf,
        /// What the machine said.
        source: io::Error,
    },
    /// It took too long.
    #[error("`{} describe` did not end within {} s; run it by hand to see why", .0.display(), PATIENCE.as_secs())]
    Slow(PathBuf),
    /// It failed.
    #[error("`{} describe` failed ({status}): {said}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// It answered something else.
    #[error("`{} describe` did not answer with a description: {why}", program.display())]
    Nonsense {
        /// The program.
        program: PathBuf,
        /// What is wrong with the answer.
        why: String,
    },
    /// It speaks another protocol.
    #[error("the provider {} speaks protocol {theirs}, this kiln {PROTOCOL}; bring both to one version", program.display())]
    Protocol {
        /// The program.
        program: PathBuf,
        /// Its protocol.
        theirs: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::cas::StoreError),
}

/// A provider that was found and has answered.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its program.
    pub program: PathBuf,
    /// The digest of its program.
    pub digest: Digest,
    /// What it offers.
    pub description: Description,
}

/// The providers known so far, by what the pipeline calls them; the default one by the empty path.
#[derive(Debug, Clone, Default)]
pub struct Known(BTreeMap<PathBuf, Provider>);

impl Known {
    /// A provider by what the pipeline calls it.
    pub fn get(&self, named: &Path) -> Option<&Provider> {
        self.0.get(named)
    }

    /// What the planner must know of it; little, when nobody has asked for it.
    pub fn facts(&self, named: &Path) -> ProviderFacts {
        let facts = |provider: &Provider| ProviderFacts {
            program: Some(provider.digest),
            numerics: provider.description.numerics.clone(),
        };
        self.get(named).map(facts).unwrap_or_default()
    }
}

/// Finds providers and asks them.
pub struct Providers<'a> {
    store: &'a Store,
    known: Known,
}

impl<'a> Providers<'a> {
    /// Knows none yet; answers are kept below the store.
    pub fn new(store: &'a Store) -> Self {
        Self { store, known: Known::default() }
    }

    /// All that were asked for.
    pub fn into_known(self) -> Known {
        self.known
    }

    /// Finds a provider and asks it, once.
    ///
    /// # Errors
    /// It is missing or does not answer as it should.
    pub fn find(&mut self, named: Option<&Path>) -> Result<&Provider, ProviderError> {
        let name = named.unwrap_or(Path::new("")).to_owned();
        if !self.known.0.contains_key(&name) {
            let program = program(named)?;
            let digest = self.store.identify(&program, &Ignore::none())?.digest;
            let description = self.description(&program, &digest)?;
            self.known.0.insert(name.clone(), Provider { program, digest, description });
        }
        self.known.0.get(&name).ok_or(ProviderError::Missing(name))
    }

    fn description(&self, program: &Path, digest: &Digest) -> Result<Description, ProviderError> {
        let kept = self.store.root().join("cache/providers").join(format!("{}.json", cache_name(digest)));
        if let Ok(text) = fs::read(&kept)
            && let Ok(description) = parse(program, &text)
        {
            return Ok(description);
        }
        let text = ask(program)?;
        let description = parse(program, &text)?;
        // A cache that cannot be written costs time, nothing else.
        if self.store.root().is_dir()
            && let Err(e) = keep(&kept, &text)
        {
            tracing::debug!(file = %kept.display(), "the description of a provider was not kept: {e}");
        }
        Ok(description)
    }
}

impl spec::Providers for Providers<'_> {
    fn describe(&mut self, program: Option<&Path>) -> Result<Description, String> {
        self.find(program).map(|provider| provider.description.clone()).map_err(|e| e.to_string())
    }
}

/// Finds a provider's program; the default one when none is named.
///
/// # Errors
/// It is nowhere, or may not be executed.
pub fn program(named: Option<&Path>) -> Result<PathBuf, ProviderError> {
    let found = match named {
        Some(path) if path.components().count() > 1 => path.is_file().then(|| path.to_owned()),
        Some(name) => on_path(name),
        None => return default_program(),
    };
    executable(found.ok_or_else(|| ProviderError::Missing(named.unwrap_or(Path::new("")).to_owned()))?)
}

fn default_program() -> Result<PathBuf, ProviderError> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
        let path = std::path::absolute(&named).unwrap_or_default();
        return if path.is_file() { executable(path) } else { program(Some(Path::new(&named))) };
    }
    let beside = std::env::current_exe().ok().and_then(|kiln| Some(kiln.parent()?.join(DEFAULT)));
    let found = beside.filter(|path| path.is_file()).or_else(|| on_path(Path::new(DEFAULT)));
    executable(found.ok_or(ProviderError::NoDefault)?)
}

fn on_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn executable(program: PathBuf) -> Result<PathBuf, ProviderError> {
    match fs::metadata(&program) {
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Err(ProviderError::NotExecutable(program)),
        Ok(_) => Ok(program),
        Err(source) => Err(ProviderError::Io { what: "look at", program, source }),
    }
}

fn cache_name(program: &Digest) -> Digest {
    let around: BTreeMap<_, _> =
        SURROUNDINGS.iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect();
    // What a provider says of its numerics depends on whether there is a GPU.
    let gpu = Path::new("/dev/nvidiactl").exists();
    Digest::of_json(
        &serde_json::json!({ "program": program, "around": around, "gpu": gpu, "protocol": PROTOCOL }),
    )
}

fn keep(file: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, file)
}

fn parse(program: &Path, text: &[u8]) -> Result<Description, ProviderError> {
    let nonsense = |why: String| ProviderError::Nonsense { program: program.to_owned(), why };
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|e| nonsense(e.to_string()))?;
    // Before its shape is looked at: another version may have another shape.
    match value.get("protocol").and_then(serde_json::Value::as_u64) {
        Some(theirs) if theirs != u64::from(PROTOCOL) => {
            return Err(ProviderError::Protocol { program: program.to_owned(), theirs });
        }
        _ => {}
    }
    serde_json::from_str(&canonical_json(&value)).map_err(|e| nonsense(e.to_string()))
}

/// Runs `PROGRAM describe` and gives what it wrote to stdout.
fn ask(program: &Path) -> Result<Vec<u8>, ProviderError> {
    let io = |what| move |source: io::Error| ProviderError::Io { what, program: program.to_owned(), source };
    let file = |name| memfd_create(name, MemfdFlags::CLOEXEC).map(File::from).map_err(io::Error::from);
    let (mut out, mut err) =
        (file("description").map_err(io("ask"))?, file("complaints").map_err(io("ask"))?);
    let stdio = |file: &File| file.try_clone().map(Stdio::from).map_err(io("ask"));
    let mut command = Command::new(program);
    command.arg("describe").env_clear().envs(environment::handed_on());
    command.stdin(Stdio::null()).stdout(stdio(&out)?).stderr(stdio(&err)?);
    let mut child = start(&mut command).map_err(io("start"))?;
    if !ends_in_time(Pid::from_child(&child)).map_err(io("wait for"))? {
        let _ = child.kill().and_then(|()| child.wait());
        return Err(ProviderError::Slow(program.to_owned()));
    }
    let status = child.wait().map_err(io("wait for"))?;
    let text = whole(&mut out).map_err(io("read"))?;
    if !status.success() {
        let mut said = last_words(&whole(&mut err).map_err(io("read"))?);
        if status.code() == Some(127) {
            said = format!("{said}; {LIBRARY_GONE}");
        }
        return Err(ProviderError::Failed { program: program.to_owned(), status, said });
    }
    Ok(text)
}

/// Starts it, with patience for a program that is still being written by a linker or a copy.
fn start(command: &mut Command) -> io::Result<Child> {
    for _ in 0..20 {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(25));
            }
            started => return started,
        }
    }
    command.spawn()
}

fn ends_in_time(pid: Pid) -> io::Result<bool> {
    let exited = pidfd_open(pid, PidfdFlags::empty())?;
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&exited, PollFlags::IN)], Some(&patience))? > 0)
}

fn whole(file: &mut File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn last_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    if last.is_empty() { "it said nothing on stderr".into() } else { last.chars().take(600).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_and_program(script: &str) -> (tempfile::TempDir, Store, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("provider");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("store")).unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store, program)
    }

    const GOOD: &str = r#"#!/bin/sh
echo asked >> "$0.log"
echo '{"protocol":1,"provider":"p","version":"1","kinds":[],"later":"unknown fields are fine"}'
"#;

    #[test]
    fn a_provider_is_asked_once_for_these_bytes() {
        let (_folder, store, program) = store_and_program(GOOD);
        let asked = || fs::read_to_string(program.with_extension("log")).unwrap().lines().count();
        for _ in 0..2 {
            assert_eq!(Providers::new(&store).find(Some(&program)).unwrap().description.provider, "p");
            assert_eq!(asked(), 1);
        }
        fs::write(&program, GOOD.replace("\"p\"", "\"q\"")).unwrap();
        assert_eq!(Providers::new(&store).find(Some(&program)).unwrap().description.provider, "q");
        assert_eq!(asked(), 2);
    }

    #[test]
    fn a_provider_that_does_not_answer_as_it_should_is_told_in_plain_words() {
        let why = |script: &str| {
            let (_folder, store, program) = store_and_program(script);
            Providers::new(&store).find(Some(&program)).unwrap_err().to_string()
        };
        assert!(why("#!/bin/sh\necho no libtorch >&2; exit 3").contains("no libtorch"));
        assert!(why("#!/bin/sh\nexit 127").contains("`make build`"));
        assert!(why("#!/bin/sh\necho hello").contains("did not answer with a description"));
        assert!(why("#!/bin/sh\necho '{\"protocol\":9}'").contains("speaks protocol 9"));
        let missing = program(Some(Path::new("/nowhere/provider"))).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/provider is missing"), "{missing}");
    }
}
