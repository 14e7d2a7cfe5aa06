//! The evaluation's numbers and its report.
//!
//! Purpose: from what each model answered to the held-out prompts and how gold scored it, make
//! means with intervals, comparisons, the best-of-n curve, and a report as JSON and as Markdown.
//! Invariants: nothing here is random but the bootstrap, which is keyed by the seed; the same
//! evaluation gives the same bytes.
//! Must not know: models, tokenizers, how gold scores.

mod best_of_n;
mod evaluation;
mod markdown;
mod report;
mod stats;

pub use best_of_n::{CurvePoint, Scored, best_of_n, best_of_n_kl};
pub use evaluation::{Answers, Evaluation, EvaluationError, ValidationLoss};
pub use report::{Comparison, ModelSummary, Report, SampleRow, write_report};
pub use stats::{Interval, WinRate, mean_interval, paired_difference, win_rate};
