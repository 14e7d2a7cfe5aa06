//! Somebody else's models.
//!
//! Purpose: tells the forms of models apart, and reads a GGUF file as if it were a folder of Hugging Face's layout.
//! Invariant: what cannot be read is named with what could be done about it.
//! Must not know: what the model is for.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kiln_formats::foreign::ForeignTokenizer;
use kiln_formats::gguf::{GgufError, Imported};
use kiln_formats::model::safetensors::{INDEX, WEIGHTS, Weights, WeightsError};
use kiln_formats::model::{TensorSource, hugging_face};
use kiln_formats::tokenizer::{Tokenizer, TokenizerError};

use crate::adapter;
use crate::bundle::BundleError;
use crate::model::io::{self, CONFIG};
use crate::model::{ModelError, Network};

/// How every GGUF file begins.
const GGUF: [u8; 4] = *b"GGUF";
/// Weights in a form that may run any code when it is read.
const PICKLED: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// What a model is stored as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A folder of Hugging Face's layout.
    Folder,
    /// A folder with an adapter, and the model that it changes.
    Adapter,
    /// This GGUF file.
    Gguf(PathBuf),
}

impl Form {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Folder => "Hugging Face folder",
            Self::Adapter => "adapter",
            Self::Gguf(_) => "GGUF",
        }
    }
}

/// Why something is no model.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FormError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: it is no GGUF file; a model is such a file, or a folder with {CONFIG} and {WEIGHTS}", .0.display())]
    NoModel(PathBuf),
    #[error("{}: the folder has no {CONFIG}; a model is a folder with {CONFIG} and {WEIGHTS}, or a GGUF file", .0.display())]
    NoConfig(PathBuf),
    #[error("{}: the folder has several GGUF files ({names}); name one of them", folder.display())]
    Several { folder: PathBuf, names: String },
    #[error(
        "{}: the weights are pickled, which may run any code when they are read; write them again with \
         `model.save_pretrained(folder, safe_serialization=True)`",
        .0.display()
    )]
    Pickled(PathBuf),
}

/// What a file or folder is stored as.
///
/// # Errors
/// When it is no model.
pub fn form(path: &Path) -> Result<Form, FormError> {
    let io = |source| FormError::Io { path: path.to_owned(), source };
    let found = std::fs::metadata(path).map_err(io)?;
    if found.is_dir() {
        return form_of_folder(path);
    }
    let mut start = [0; 4];
    let is_gguf =
        found.is_file() && File::open(path).map_err(io)?.read_exact(&mut start).is_ok() && start == GGUF;
    if is_gguf { Ok(Form::Gguf(path.to_owned())) } else { Err(FormError::NoModel(path.to_owned())) }
}

fn form_of_folder(folder: &Path) -> Result<Form, FormError> {
    if adapter::is_adapter(folder) {
        return Ok(Form::Adapter);
    }
    if folder.join(CONFIG).exists() {
        let has_weights = folder.join(WEIGHTS).exists() || folder.join(INDEX).exists();
        let pickled = PICKLED.iter().map(|name| folder.join(name)).find(|path| path.exists());
        return match pickled.filter(|_| !has_weights) {
            Some(path) => Err(FormError::Pickled(path)),
            None => Ok(Form::Folder),
        };
    }
    let io = |source| FormError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) {
            files.push(path);
        }
    }
    files.sort();
    match files.len() {
        0 => Err(FormError::NoConfig(folder.to_owned())),
        1 => Ok(Form::Gguf(files.remove(0))),
        _ => {
            let names = files.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
            let names = names.collect::<Vec<_>>().join(", ");
            Err(FormError::Several { folder: folder.to_owned(), names })
        }
    }
}

/// The names of the files in a folder that hold the shape and the weights.
///
/// # Errors
/// When there are no weights, or their index is malformed.
pub fn files(folder: &Path) -> Result<Vec<OsString>, WeightsError> {
    let weights = Weights::open(folder)?;
    let mut names: Vec<OsString> =
        weights.paths().filter_map(|path| path.file_name().map(OsString::from)).collect();
    let is_cut = names.iter().all(|name| name != WEIGHTS);
    names.extend(is_cut.then(|| INDEX.into()));
    names.push(CONFIG.into());
    Ok(names)
}

/// The tensors of a GGUF file.
struct GgufTensors<'a> {
    path: &'a Path,
    imported: &'a Imported,
}

impl TensorSource for GgufTensors<'_> {
    fn names(&self) -> Vec<&str> {
        self.imported.tensors.iter().map(|tensor| tensor.name.as_str()).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        let found = self.imported.tensors.iter().find(|tensor| tensor.name == name);
        found.map(|tensor| tensor.shape.as_slice())
    }

    fn read(&self, name: &str, shape: &[usize], into: &mut [f32]) -> Result<(), WeightsError> {
        let fail = |reason: String| self.malformed(name, reason);
        let mut values = Vec::new();
        self.imported.read(name, &mut values).map_err(|e: GgufError| fail(e.to_string()))?;
        if self.shape(name) != Some(shape) || values.len() != into.len() {
            return Err(fail(format!("tensor `{name}` is not of shape {shape:?}")));
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(fail(format!("tensor `{name}` has a value that is not finite")));
        }
        into.copy_from_slice(&values);
        Ok(())
    }

    fn malformed(&self, _: &str, reason: String) -> WeightsError {
        WeightsError::malformed(self.path, reason)
    }
}

/// Reads model and tokenizer from a GGUF file.
///
/// # Errors
/// When it is malformed, or says something that is not known here.
pub fn gguf(path: &Path, device: &Device) -> Result<(Network, Tokenizer), BundleError> {
    let imported = Imported::open(path)?;
    let described = hugging_face::read(&imported.config)
        .map_err(|source| ModelError::Config { path: path.to_owned(), source })?;
    let tokenizer = tokenizer_of(&imported)?;
    let model = io::read(&described, &GgufTensors { path, imported: &imported }, device)?;
    Ok((model, tokenizer))
}

fn tokenizer_of(imported: &Imported) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::foreign(ForeignTokenizer::from_values(
        &imported.tokenizer,
        Some(&imported.tokenizer_config),
        Some(&imported.generation_config),
        Some(&imported.config),
    )?)
}

/// The tokenizer of a tokenizer's folder, of a model's folder or of a GGUF file.
///
/// # Errors
/// When there is none, or it is malformed.
pub fn tokenizer(path: &Path) -> Result<Tokenizer, BundleError> {
    match form(path) {
        Ok(Form::Gguf(file)) => Ok(tokenizer_of(&Imported::open(&file)?)?),
        _ => Ok(Tokenizer::load(path)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[test]
    fn a_model_is_a_gguf_file_or_a_folder_and_all_else_says_what_it_lacks() {
        let form_of = |files: &[(&str, &[u8])]| form(folder(files).path()).map_err(|e| e.to_string());
        assert_eq!(form_of(&[(CONFIG, b"{}"), (WEIGHTS, b"")]), Ok(Form::Folder));
        let only = folder(&[("a.gguf", b"GGUF"), ("README.md", b"")]);
        let path = only.path().join("a.gguf");
        assert_eq!(form(only.path()).unwrap(), Form::Gguf(path.clone()));
        assert_eq!(form(&path).unwrap(), Form::Gguf(path));
        for (files, words) in [
            (&[("a.gguf", b"GGUF"), ("b.gguf", b"GGUF")][..], "several GGUF files (a.gguf, b.gguf)"),
            (&[("README.md", b"none")], "the folder has no config.json"),
            (&[(CONFIG, b"{}  "), (PICKLED[0], b"....")], "the weights are pickled"),
        ] {
            let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
            let said = form_of(&files).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
        let other = folder(&[("a.bin", b"GGU")]);
        let said = form(&other.path().join("a.bin")).unwrap_err().to_string();
        assert!(said.contains("it is no GGUF file"), "{said}");
        assert!(form(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
    }
}
