//! `kiln export`.
//!
//! Purpose: has a provider write a model for other programs, with its card beside it.
//! Invariant: nothing that is there is replaced.
//! Must not know: formats, but for the file that tells an adapter from a model.

use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use super::model::{self, Use};
use crate::cli::args::{Common, ExportArgs, ExportFormat};
use crate::cli::context::cores;
use crate::cli::printer::Printer;
use crate::cli::{CliError, Exit};
use crate::protocol::ExportRequest;
use crate::provider::call::call;

/// The file that an adapter has.
const ADAPTER: &str = "adapter_config.json";

/// Runs the command.
///
/// # Errors
/// There is no such model; the place is taken; the provider fails, or finds a difference.
pub fn run(common: &Common, args: &ExportArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (model, rest) = model::find(common, &args.pipeline, Use::Export, printer)?;
    if !rest.is_empty() {
        return Err(CliError::Call("`kiln export` takes one model: kiln export [FILE] MODEL --to hf".into()));
    }
    let name = name(&model.name);
    let out = match &args.output {
        Some(out) => out.clone(),
        None if args.to == ExportFormat::Gguf => PathBuf::from(format!("{name}.gguf")),
        None => PathBuf::from(&name),
    };
    let absolute = std::path::absolute(&out).map_err(CliError::io(format!("find {}", out.display())))?;
    let request = ExportRequest {
        model: model.folder.clone(),
        out: absolute,
        to: args.to.name().to_owned(),
        precision: args.precision.name().to_owned(),
        name,
        verify: args.verify,
        threads: cores(),
    };
    let summary = call(&model.program, "export", &request, cores(), |message| printer.warn(message))?;
    if args.pipeline.json {
        let found: Map<_, _> = summary.into_iter().map(|(name, value)| (name, json!(value))).collect();
        let verified = if args.verify { json!(found) } else { json!(null) };
        printer.json(&json!({
            "schema": "kiln.export/1", "model": model.name, "format": args.to.name(), "path": out, "verified": verified,
        }))?;
        return Ok(Exit::Ok);
    }
    let known = |wanted: &str| summary.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let said = match (args.verify, known("logits")) {
        (false, _) => String::new(),
        (true, Some(off)) if off > 0.0 => {
            format!(
                " Read again, prompts have the same tokens, and logits differ by at most {off:.1e} of the largest."
            )
        }
        (true, Some(_)) => " Read again, prompts have the same tokens and logits are equal.".to_owned(),
        (true, None) => " Read again, scores are equal.".to_owned(),
    };
    printer.line(format!("Wrote {}.{said}", out.display()));
    if out.join(ADAPTER).is_file() {
        let out = out.display();
        printer.line(format!("It is an adapter with its model in {out}/base; in Python:"));
        printer
            .line(format!("  model = AutoModelForCausalLM.from_pretrained(\"{out}/base\")  # transformers"));
        printer.line(format!("  model = PeftModel.from_pretrained(model, \"{out}\")  # peft"));
        printer.line("A stage of the kind `merge` makes one checkpoint of both, which loads without peft.");
    }
    Ok(Exit::Ok)
}

/// What the model is called: the end of a path without its kind, or the name of its stage.
fn name(of: &str) -> String {
    let stem = Path::new(of).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    match of.contains('/') {
        true => stem.unwrap_or_else(|| "model".to_owned()),
        false => of.split('.').next().unwrap_or("model").to_owned(),
    }
}
