//! Descriptions that need not be asked for again.
//!
//! Purpose: keeps the last answers of a program in the store's cache, one file a program, named by the
//! digest of its bytes.
//! Invariant: an answer is given only when all that it depends on is as it was: the program's bytes, the processor, and
//! the variables, files and devices that the description itself declares. A program whose bytes do not
//! say everything (a script imports others) is kept only when it declares its files. Losing the cache
//! costs time only.
//! Must not know: how a program is asked.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::environment::Variables;
use crate::cas::{Ignore, Store, disk};
use crate::digest::{Digest, sealed};
use crate::protocol::Description;

const FORMAT: &str = "kiln.descriptions/2";
/// How many answers are kept of a program: one for each GPU setting, say.
const MOST_ANSWERS: usize = 8;
/// No larger file is read.
const MOST_BYTES: u64 = 256 << 20;
/// Variables that change what any native program loads, so that every answer depends on them.
const LOADER: [&str; 1] = ["LD_LIBRARY_PATH"];

/// A program whose answers may be kept.
pub struct Cache<'a> {
    pub store: &'a Store,
    pub program: &'a Path,
    pub digest: &'a Digest,
    pub caller: &'a Variables,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    format: String,
    answers: Vec<Answer>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    depends: Depends,
    description: Value,
}

/// What a description depends on, as it was when the program was asked. Values of variables stand as
/// digests, for they may be secret.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Depends {
    environment: BTreeMap<String, Option<Digest>>,
    files: BTreeMap<PathBuf, Option<Digest>>,
    devices: BTreeMap<PathBuf, bool>,
    processor: Option<Digest>,
}

impl Cache<'_> {
    /// The program's answer, if it is known and nothing that it depends on has changed.
    pub fn get(&self) -> Option<Vec<u8>> {
        let native = self.is_native();
        let answers = self.read().answers;
        let fresh = |answer: &Answer| {
            let description = serde_json::from_value(answer.description.clone()).ok();
            description.is_some_and(|d| self.keeps(native, &d) && self.depends(&d) == answer.depends)
        };
        answers.iter().find(|answer| fresh(answer)).and_then(|a| serde_json::to_vec(&a.description).ok())
    }

    /// Keeps an answer, if it may be kept.
    ///
    /// # Errors
    /// The disk refuses; nothing but time is lost then.
    pub fn put(&self, text: &[u8], description: &Description) -> io::Result<()> {
        // Only where a store already is: planning makes none.
        if !self.store.root().is_dir() || !self.keeps(self.is_native(), description) {
            return Ok(());
        }
        let answer =
            Answer { depends: self.depends(description), description: serde_json::from_slice(text)? };
        let mut kept = self.read();
        kept.answers.retain(|other| other.depends != answer.depends);
        kept.answers.insert(0, answer);
        kept.answers.truncate(MOST_ANSWERS);
        let file = self.file();
        fs::create_dir_all(file.parent().unwrap_or(&file))?;
        disk::replace(&file, sealed::seal(&serde_json::to_string(&kept)?).as_bytes())
    }

    fn keeps(&self, native: bool, description: &Description) -> bool {
        native || !description.files.is_empty()
    }

    fn depends(&self, description: &Description) -> Depends {
        let names = LOADER.into_iter().chain(description.environment.iter().map(String::as_str));
        let value = |name: &str| self.caller.get(OsStr::new(name)).map(|v| Digest::of_bytes(v.as_bytes()));
        let beside = self.program.parent().unwrap_or(Path::new("/"));
        let digest = |path: &Path| {
            self.store.identify(&beside.join(path), &Ignore::none()).ok().map(|found| found.digest)
        };
        Depends {
            environment: names.map(|name| (name.to_owned(), value(name))).collect(),
            files: description.files.iter().map(|path| (path.clone(), digest(path))).collect(),
            devices: description.devices.iter().map(|path| (path.clone(), path.exists())).collect(),
            processor: processor(),
        }
    }

    /// Whether the system runs the bytes of the file itself, and no interpreter.
    fn is_native(&self) -> bool {
        let mut magic = [0; 4];
        File::open(self.program).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
            && magic == *b"\x7fELF"
    }

    fn file(&self) -> PathBuf {
        self.store.root().join("cache/providers").join(format!("{}.json", self.digest))
    }

    /// What is kept of this program; nothing where that is damaged.
    fn read(&self) -> Kept {
        let mut text = Vec::new();
        let read = File::open(self.file()).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
        let kept = read.ok().and_then(|_| serde_json::from_str::<Kept>(sealed::open(&text).ok()?).ok());
        kept.filter(|kept| kept.format == FORMAT)
            .unwrap_or_else(|| Kept { format: FORMAT.to_owned(), answers: Vec::new() })
    }
}

/// The instructions that the processor has: a program may choose by them what it computes, and machines may share a store.
fn processor() -> Option<Digest> {
    let mut text = String::new();
    // The first processor is described at the beginning.
    File::open("/proc/cpuinfo").ok()?.take(16 << 10).read_to_string(&mut text).ok()?;
    let line = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"))?;
    Some(Digest::of_bytes(line.as_bytes()))
}
