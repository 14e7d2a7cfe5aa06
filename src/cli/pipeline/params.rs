//! Params that only the provider of a kind can judge.
//!
//! Purpose: lets providers look at the params of the stages that are to run, so that what cannot work is told before
//! anything runs, and not when the stage begins after hours.
//! Invariant: each provider is asked once; a plan with nothing to run asks none.
//! Must not know: what any param means.

use std::collections::BTreeMap;

use crate::cli::CliError;
use crate::cli::context::Context;
use crate::plan::Plan;
use crate::protocol::StageParams;
use crate::spec::Code;
use crate::spec::types::{Stage, Work};

/// Checks the params of the stages of a plan that are to run.
///
/// # Errors
/// Every stage whose params do not fit together; a provider that does not answer.
pub fn check(context: &Context, plan: &Plan) -> Result<(), CliError> {
    let graph = &context.graph;
    let mut of_provider: BTreeMap<usize, Vec<&Stage>> = BTreeMap::new();
    for planned in plan.stages.iter().filter(|planned| !planned.state.is_fresh()) {
        let stage = graph.stage(planned.stage);
        if let Work::Kind { provider, .. } = &stage.work {
            of_provider.entry(*provider).or_default().push(stage);
        }
    }
    let mut found = Vec::new();
    for (index, stages) in of_provider {
        let named = graph.pipeline().providers.get(index);
        let Some(provider) = named.and_then(|named| context.providers.get(named)) else { continue };
        let params = |stage: &&Stage| match &stage.work {
            Work::Kind { kind, .. } => Some(StageParams { kind: kind.clone(), params: stage.params_json() }),
            Work::Command { .. } | Work::Download(_) => None,
        };
        let asked = stages.iter().filter_map(params).collect();
        let problems = provider.check(asked).map_err(|e| CliError::Failed(e.to_string()))?;
        found.extend(stages.into_iter().zip(problems).filter_map(|(stage, problem)| Some((stage, problem?))));
    }
    let at = |(stage, problem): (&Stage, String)| {
        let message =
            format!("the parameters of stage `{}` do not fit together: {problem}", stage.name.value);
        context.diagnostic(Code::Params, stage.name.span, message)
    };
    let errors: Vec<_> = found.into_iter().map(at).collect();
    if errors.is_empty() { Ok(()) } else { Err(CliError::Pipeline(errors)) }
}
