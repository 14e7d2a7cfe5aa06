//! `rank`: completions in order of preference.
//!
//! Purpose: a programme as labeller (a gold rule with Plackett-Luce noise), or the import of
//! rankings that others made.
//! Invariant: the noise of completion k of prompt i depends on (seed, i, k) alone.
//! Must not know: models.
//! Source: Plackett 1975, Luce 1959 (noise); Ouyang 2022 (K completions a prompt).

use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, optional, output};
use crate::context::{Context, StageError, Summary};
use crate::data::{self, CompletionSet, Ranking, last_said, read_corpus};
use crate::gold::{Gold, GoldOptions, Reply, Rule};
use crate::rank::{RankOptions, check_imported, rank};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The rule that the labeller goes by.
    pub gold: GoldOptions,
    /// The scale of the labeller's noise, in units of gold; none means that it is chosen so that
    /// `agreement` holds. 0 means no noise.
    #[schemars(range(min = 0.0, max = 1000000.0))]
    pub tau: Option<f64>,
    /// The share of pairs that the labeller is to order as gold does.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.5))]
    pub agreement: f64,
    /// A negative control: the ranks of every prompt are dealt out at random.
    pub shuffle: bool,
    /// The seed of the noise.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        let RankOptions { tau, agreement, shuffle, seed } = RankOptions::default();
        Self { gold: GoldOptions::default(), tau, agreement, shuffle, seed }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "rank",
        1,
        "orders the completions of each prompt: a programme as labeller, or an import",
        (
            vec![
                input("completions", &["completions"], "what to rank"),
                optional("lexicon", &["corpus"], "the text of the gold rule `verse`"),
                optional(
                    "imported",
                    &["rankings", "any"],
                    "rankings as JSON lines: checked and taken as they are",
                ),
            ],
            vec![output("rankings", "rankings", "ranked completions")],
        ),
        run,
    )
    .checked(|params: &Params| params.gold.check())
    .cpus(1)
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let sets: Vec<CompletionSet> = data::read(ctx.input("completions")?)?;
    let out = ctx.output("rankings")?;
    if let Some(path) = ctx.optional_input("imported") {
        let mut rankings: Vec<Ranking> = data::read(path)?;
        check_imported(&mut rankings, &sets).map_err(StageError::failed)?;
        data::write(out, &rankings).map_err(StageError::failed)?;
        return Ok(vec![("imported".to_owned(), rankings.len() as f64)]);
    }
    let gold = gold(&params.gold, ctx)?;
    let Params { tau, agreement, shuffle, seed, .. } = *params;
    let options = RankOptions { tau, agreement, shuffle, seed };
    let ranked = rank(&sets, &scores(&gold, &sets), &options).map_err(StageError::failed)?;
    data::write(out, &ranked.rankings).map_err(StageError::failed)?;
    let share = ranked.agreement.share();
    ctx.metric(0, &[("rank/agreement", share.unwrap_or(f64::NAN)), ("rank/tau", ranked.tau)]);
    let mut summary: Summary = share.map(|s| ("agreement".to_owned(), s)).into_iter().collect();
    summary.push(("rankings".to_owned(), ranked.rankings.len() as f64));
    Ok(summary)
}

/// The rule, with its text where it needs one.
///
/// # Errors
/// When the rule `verse` has no text, or an option is wrong.
pub(super) fn gold(options: &GoldOptions, ctx: &Context) -> Result<Gold, StageError> {
    let lexicon = match (ctx.optional_input("lexicon"), options.rule) {
        (Some(path), Rule::Verse) => read_corpus(path)?,
        (None, Rule::Verse) => {
            return Err(StageError::failed(
                "the gold rule `verse` needs the input `lexicon`, a corpus; give one, or take `gold: { rule: format }`",
            ));
        }
        (_, Rule::Format) => Vec::new(),
    };
    Gold::new(lexicon, options).map_err(StageError::failed)
}

/// Gold scores by prompt and completion. Each completion is scored among the k-th completions of
/// all prompts, for the rule looks at what others got as well.
fn scores(gold: &Gold, sets: &[CompletionSet]) -> Vec<Vec<f64>> {
    let most = sets.iter().map(|s| s.completions.len()).max().unwrap_or(0);
    let mut out = vec![Vec::new(); sets.len()];
    for k in 0..most {
        let who: Vec<usize> = (0..sets.len()).filter(|&i| k < sets[i].completions.len()).collect();
        let reply = |&i: &usize| {
            let completion = &sets[i].completions[k];
            Reply {
                prompt: last_said(&sets[i].prompt),
                text: &completion.text,
                finished: completion.finished,
            }
        };
        let replies: Vec<Reply> = who.iter().map(reply).collect();
        for (i, score) in who.iter().zip(gold.score_all(&replies)) {
            out[*i].push(score);
        }
    }
    out
}
