//! `kiln import`.
//!
//! Purpose: writes a pipeline that reads somebody else's model, from a folder of Hugging Face's layout or a GGUF file.
//! Invariant: nothing that exists is ever overwritten; the model is neither changed nor copied until the pipeline runs.
//! Must not know: formats, beyond the files by which they are told.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::init::write_new;
use crate::cas::remote::without_secrets;
use crate::cli::args::ImportArgs;
use crate::cli::printer::Printer;
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};

const PIPELINE: &str = include_str!("templates/import.yaml");

/// Runs the command.
///
/// # Errors
/// There is no such model, or the pipeline file exists.
pub fn run(args: &ImportArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let model = located(&args.model)?;
    let name = name(&model);
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.yaml")));
    let here = std::env::current_dir().map_err(CliError::io("find the working folder"))?;
    let root = find_root(Some(&file))?;
    let whole = here.join(&model);
    let whole = whole.canonicalize().unwrap_or(whole);
    let inside = root.canonicalize().ok().and_then(|root| Some(whole.strip_prefix(root).ok()?.to_owned()));
    let path = inside.unwrap_or(whole);
    // JSON strings are YAML strings, whatever the name has in it.
    let path = Value::from(path.to_string_lossy()).to_string();
    let shown = file.display().to_string();
    let text = PIPELINE.replace("@PATH@", &path).replace("@NAME@", &name).replace("@FILE@", &shown);
    write_new(&file, &text, "kiln import .. other.yaml")?;
    printer.line(format!("Wrote {shown}, which reads {} as the stage `model`. Next:", model.display()));
    printer.line(format!("  kiln run {shown}"));
    printer.line(format!("  kiln chat {shown} model"));
    Ok(Exit::Ok)
}

/// The folder or the file that `hf:FOLDER`, `gguf:FILE` or a path names.
fn located(named: &str) -> Result<PathBuf, CliError> {
    let call = |message: String| Err(CliError::Call(message));
    if named.contains("://") {
        return call(format!(
            "`{}` is a URL; download it, and name the folder or the file, or write a source with `url` and `sha256`",
            without_secrets(named)
        ));
    }
    let (form, path) = named.split_once(':').filter(|(form, _)| ["hf", "gguf"].contains(form)).unzip();
    let path = PathBuf::from(path.unwrap_or(named));
    if !path.exists() {
        return call(format!(
            "there is no {}; a model is a folder of Hugging Face's layout (hf:FOLDER) or a GGUF file (gguf:FILE)",
            path.display()
        ));
    }
    let has = |name: &str| path.join(name).is_file();
    let is_gguf = || {
        let mut start = [0; 4];
        File::open(&path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok()) && start == *b"GGUF"
    };
    match (form, path.is_dir()) {
        (Some("gguf"), true) | (Some("hf"), false) => call(format!(
            "{} is {}",
            path.display(),
            if path.is_dir() { "a folder; write hf:FOLDER" } else { "a file; write gguf:FILE" }
        )),
        (_, true)
            if !(has("config.json") || has("adapter_config.json") || form.is_none() && holds_gguf(&path)) =>
        {
            call(format!("{} has no config.json, so it is no model of Hugging Face's layout", path.display()))
        }
        (_, true) if has("adapter_config.json") && !path.join("base").is_dir() => call(format!(
            "{} is an adapter without its model; a stage of the kind `model` reads both: `inputs: {{ files: ADAPTER, base: \
             MODEL }}`, where both are sources",
            path.display()
        )),
        (_, true) if has("pytorch_model.bin") && !has("model.safetensors") => call(format!(
            "the weights in {} are pickled, which may run any code when they are read; write them again with \
             `model.save_pretrained(folder, safe_serialization=True)`",
            path.display()
        )),
        (_, false) if !is_gguf() => call(format!("{} is no GGUF file", path.display())),
        _ => Ok(path),
    }
}

fn holds_gguf(folder: &Path) -> bool {
    let is_gguf = |path: PathBuf| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    std::fs::read_dir(folder)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_gguf(entry.path()))))
}

/// A name for the pipeline: the end of the path, in letters that such a name may have.
fn name(model: &Path) -> String {
    let whole = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let stem = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    let stem = stem.map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        stem.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    match name.trim_matches('-') {
        "" => "model".to_owned(),
        name if name.starts_with(|char: char| char.is_ascii_digit()) => format!("model-{name}"),
        name => name.to_owned(),
    }
}
