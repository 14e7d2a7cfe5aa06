//! The model that a command names.
//!
//! Purpose: finds a model (an output of a stage, a folder, or a file) and the provider that can read it.
//! Invariant: an artifact of a type that is no model is refused before a provider is started.
//! Must not know: what is done with the model.

use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::args::{Common, PipelineArgs};
use crate::cli::context::{Context, open_store};
use crate::cli::printer::Printer;
use crate::cli::results::show;
use crate::cli::root::find_root;
use crate::protocol::ARTIFACT_TYPES;
use crate::provider::Providers;
use crate::spec::diagnostic::list_names;
use crate::spec::types::Work;

/// A model and the provider that can run it.
pub struct Model {
    /// As it was named.
    pub name: String,
    /// Its folder, or a file.
    pub folder: PathBuf,
    /// The program of the provider.
    pub program: PathBuf,
}

/// What a model is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To talk with it.
    Converse,
    /// To write it for other programs.
    Export,
}

impl Use {
    /// Whether an artifact of this type may serve: a provider may have types of its own.
    fn accepts(self, artifact_type: &str) -> bool {
        let known = ARTIFACT_TYPES.contains(&artifact_type);
        let scores = self == Self::Export && artifact_type == "reward";
        !known || scores || ["checkpoint", "policy", "any"].contains(&artifact_type)
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Converse => "language model",
            Self::Export => "model",
        }
    }
}

/// The model of the command, and the names after it.
///
/// # Errors
/// There is no such model, or it is of another kind.
pub fn find<'a>(
    common: &Common,
    args: &'a PipelineArgs,
    for_what: Use,
    printer: &Printer,
) -> Result<(Model, &'a [String]), CliError> {
    let (_, names) = args.split();
    let Some((name, rest)) = names.split_first() else {
        let forms =
            "name a model: STAGE, STAGE.OUTPUT, a folder such as ./model or a file such as model.gguf";
        return Err(CliError::Call(forms.into()));
    };
    if name.contains('/') || Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) {
        return Ok((model_at(common, name)?, rest));
    }
    let context = Context::open(common, args)?;
    let stage = name.split('.').next().unwrap_or(name);
    if context.graph.index(stage).is_none() && Path::new(name).is_dir() {
        let message = format!("there is no stage `{name}`, but a folder; for that, write ./{name}");
        return Err(CliError::Call(message));
    }
    let _in_use = context.store.share_if_there()?;
    let name = model_output(&context, name, for_what)?;
    let shown = show::find(&context, &name)?;
    shown.warn_if_stale(printer);
    let stage = context.graph.index(name.rsplit_once('.').map_or(name.as_str(), |(stage, _)| stage));
    let provider = stage.and_then(|ix| match &context.graph.stage(ix).work {
        Work::Kind { provider, .. } => {
            context.providers.get(context.graph.pipeline().providers.get(*provider)?)
        }
        Work::Command { .. } | Work::Download(_) => None,
    });
    let program = match provider {
        Some(provider) => provider.program.clone(),
        None => default_program(common)?,
    };
    Ok((Model { name: shown.name, folder: shown.path, program }, rest))
}

/// The artifact that a name means: of a stage without the name of an output, its first one that is a language model.
///
/// # Errors
/// The artifact is no language model.
fn model_output(context: &Context, name: &str, for_what: Use) -> Result<String, CliError> {
    let (stage, output) = show::split(&context.graph, name);
    let Some(ix) = context.graph.index(stage) else {
        let source = context.graph.pipeline().sources.get(name);
        return match source.filter(|source| !for_what.accepts(&source.artifact_type)) {
            Some(source) => Err(no_model(context, name, &source.artifact_type, for_what)),
            None => Ok(name.to_owned()),
        };
    };
    let ports = &context.graph.stage(ix).outputs;
    let port = match output {
        Some(_) => Some(show::port(&context.graph, ix, output)?),
        None => ports.iter().find(|port| port.types.iter().any(|t| for_what.accepts(t))).or(ports.first()),
    };
    match port.and_then(|port| Some((port, port.types.first()?))) {
        Some((port, of)) if !for_what.accepts(of) => {
            Err(no_model(context, &format!("{stage}.{}", port.name), of, for_what))
        }
        Some((port, _)) => Ok(format!("{stage}.{}", port.name)),
        None => Ok(name.to_owned()),
    }
}

fn no_model(context: &Context, name: &str, artifact_type: &str, for_what: Use) -> CliError {
    let stages = context.graph.order().iter().map(|ix| context.graph.stage(*ix)).filter(|stage| {
        let mut types = stage.outputs.iter().flat_map(|port| &port.types);
        types.any(|t| t != "any" && for_what.accepts(t))
    });
    let models = list_names(stages.map(|stage| stage.name.value.as_str()));
    CliError::Call(format!(
        "`{name}` has the type {artifact_type} and is no {}; the stages that make one: {models}",
        for_what.wanted()
    ))
}

fn model_at(common: &Common, name: &str) -> Result<Model, CliError> {
    let folder = std::path::absolute(name).map_err(CliError::io(format!("find {name}")))?;
    if !folder.exists() {
        return Err(CliError::Call(format!(
            "there is no folder or file {name}; name a model, or a stage without `/`"
        )));
    }
    Ok(Model { name: name.to_owned(), folder, program: default_program(common)? })
}

/// The program of the default provider.
///
/// # Errors
/// There is none.
fn default_program(common: &Common) -> Result<PathBuf, CliError> {
    let store = open_store(common, &find_root(None)?)?;
    let mut providers = Providers::new(&store);
    let found = providers.find(None).map_err(|e| CliError::Failed(e.to_string()))?;
    Ok(found.program.clone())
}
