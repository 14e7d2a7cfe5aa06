//! The files of a tokenizer in the folder of a model.
//!
//! Invariant: a file is read up to its limit and no further, and only if it is a regular file. What was read can be written
//! again unchanged.
//! Must not know: what the files mean.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::error::ForeignError;

/// The tokenizer itself.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Names of special tokens, the chat template.
pub(super) const CONFIG: &str = "tokenizer_config.json";
/// Names of special tokens, in old folders.
pub(super) const SPECIALS: &str = "special_tokens_map.json";
/// Where generation stops.
pub(super) const GENERATION: &str = "generation_config.json";
/// The model.
pub(super) const MODEL: &str = "config.json";
/// The chat template alone.
pub(super) const TEMPLATE: &str = "chat_template.jinja";

/// Bytes of `tokenizer.json`; the largest in use have about 35 MB.
const LARGEST_TOKENIZER: u64 = 128 << 20;
/// Bytes of the other files.
const LARGEST: u64 = 8 << 20;

/// A file as it was read, with its name.
pub type NamedFile = (&'static str, Arc<[u8]>);

/// What the folder has.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) tokenizer: Vec<u8>,
    pub(super) config: Option<Vec<u8>>,
    pub(super) specials: Option<Vec<u8>>,
    pub(super) generation: Option<Vec<u8>>,
    pub(super) model: Option<Vec<u8>>,
    pub(super) template: Option<Vec<u8>>,
}

impl Folder {
    /// Reads the files; all but `tokenizer.json` may be absent.
    pub(super) fn read(folder: &Path) -> Result<Self, ForeignError> {
        let tokenizer = folder.join(TOKENIZER);
        let missing = || ForeignError::Io {
            path: tokenizer.clone(),
            source: std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "there is no such file; load and save the model with transformers to have one made",
            ),
        };
        Ok(Self {
            tokenizer: read(&tokenizer, LARGEST_TOKENIZER)?.ok_or_else(missing)?,
            config: read(&folder.join(CONFIG), LARGEST)?,
            specials: read(&folder.join(SPECIALS), LARGEST)?,
            generation: read(&folder.join(GENERATION), LARGEST)?,
            model: read(&folder.join(MODEL), LARGEST)?,
            template: read(&folder.join(TEMPLATE), LARGEST)?,
        })
    }

    /// The files that go along with the tokenizer to another folder.
    pub(super) fn files(&self) -> Vec<NamedFile> {
        let optional = [
            (TOKENIZER, Some(&self.tokenizer)),
            (CONFIG, self.config.as_ref()),
            (SPECIALS, self.specials.as_ref()),
            (GENERATION, self.generation.as_ref()),
            (TEMPLATE, self.template.as_ref()),
        ];
        let there = optional.into_iter().filter_map(|(name, bytes)| Some((name, bytes?)));
        there.map(|(name, bytes)| (name, Arc::from(bytes.as_slice()))).collect()
    }
}

/// The JSON of an optional file.
pub(super) fn parse(name: &str, bytes: Option<&Vec<u8>>) -> Result<Option<Value>, ForeignError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let parsed = serde_json::from_slice(bytes);
    parsed.map(Some).map_err(|source| ForeignError::Json { path: name.into(), source })
}

/// The bytes of a file, if there is one.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ForeignError> {
    let fail = |source| ForeignError::Io { path: path.to_path_buf(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    // To open a pipe would wait for somebody to write.
    if !metadata.is_file() {
        return Err(fail(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "this is not a regular file",
        )));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(fail)?;
    if bytes.len() as u64 > limit {
        let size = metadata.len().max(limit + 1);
        return Err(ForeignError::TooLarge { path: path.to_path_buf(), size, limit });
    }
    Ok(Some(bytes))
}
