//! The report as data.
//!
//! Purpose: turn an evaluation into the numbers people read, flat metrics for `kiln metrics`, and
//! the files `report.json` and `report.md`.
//! Invariants: every mean stands with its 95 % interval; metric names are `gold/NAME`,
//! `gold/NAME/low`, `gold/NAME/high` and so on; all numbers are finite.
//! Must not know: how the numbers were measured.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::best_of_n::{CurvePoint, best_of_n};
use super::evaluation::{Answers, Evaluation, EvaluationError};
use super::markdown::markdown;
use super::stats::{Interval, WinRate, mean, mean_interval, paired_difference, win_rate};
use crate::data::DataError;

/// All numbers of an evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The form of this object.
    pub schema: &'static str,
    /// How many held-out prompts.
    pub prompts: usize,
    /// Who answered, as given.
    pub models: Vec<ModelSummary>,
    /// Each model against the one before it, and against people.
    pub comparisons: Vec<Comparison>,
    /// The best-of-n curve; empty without a reward model.
    pub best_of_n: Vec<CurvePoint>,
    /// Some prompts with everybody's answers.
    pub samples: Vec<SampleRow>,
    /// The same numbers, flat.
    pub metrics: BTreeMap<String, f64>,
}

/// One model's numbers.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSummary {
    /// Whose.
    pub name: String,
    /// The mean gold reward.
    pub gold: Interval,
    /// The share of answers that ended with the stop token.
    pub finished: f64,
    /// Mean words of an answer.
    pub words: f64,
    /// The share of answers that no other prompt got.
    pub distinct: f64,
    /// The gold rule's parts, mean over prompts.
    pub parts: Vec<(String, f64)>,
    /// Validation loss in nats a token.
    pub loss: Option<f64>,
    /// Validation loss in bits a byte.
    pub bits_per_byte: Option<f64>,
}

/// One model against another on the same prompts.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The first.
    pub model: String,
    /// The second.
    pub against: String,
    /// Mean gold of the first less that of the second.
    pub difference: Interval,
    /// How often the first is better.
    pub win: WinRate,
}

/// A prompt with everybody's answers.
#[derive(Debug, Clone, Serialize)]
pub struct SampleRow {
    /// The prompt.
    pub prompt: String,
    /// Name, answer and its gold reward, in the order of the models.
    pub replies: Vec<(String, String, f64)>,
}

impl Report {
    /// The report of an evaluation.
    ///
    /// # Errors
    /// [`EvaluationError`] when answers do not fit the prompts.
    pub fn new(evaluation: &Evaluation) -> Result<Self, EvaluationError> {
        evaluation.check()?;
        let models: Vec<_> = evaluation.answers.iter().filter_map(summary).collect();
        let mut report = Self {
            schema: "kiln.eval/1",
            prompts: evaluation.prompts.len(),
            models,
            comparisons: comparisons(evaluation),
            best_of_n: best_of_n(&evaluation.best_of_n).unwrap_or_default(),
            samples: samples(evaluation),
            metrics: BTreeMap::new(),
        };
        report.metrics = report.flat();
        Ok(report)
    }

    fn flat(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        let mut interval = |name: String, interval: Interval| {
            metrics.insert(format!("{name}/low"), interval.low);
            metrics.insert(format!("{name}/high"), interval.high);
            metrics.insert(name, interval.value);
        };
        for model in &self.models {
            interval(format!("gold/{}", model.name), model.gold);
        }
        for comparison in &self.comparisons {
            let pair = format!("{}/{}", comparison.model, comparison.against);
            interval(format!("difference/{pair}"), comparison.difference);
            interval(format!("win/{pair}"), comparison.win.rate);
        }
        for point in &self.best_of_n {
            interval(format!("best_of/{}", point.n), point.gold);
        }
        for model in &self.models {
            let numbers = [
                ("finished", Some(model.finished)),
                ("words", Some(model.words)),
                ("distinct", Some(model.distinct)),
                ("loss", model.loss),
                ("bits_per_byte", model.bits_per_byte),
            ];
            for (name, value) in numbers {
                if let Some(value) = value {
                    metrics.insert(format!("{name}/{}", model.name), value);
                }
            }
        }
        metrics.retain(|_, value| value.is_finite());
        metrics
    }
}

/// Writes `report.json` and `report.md` into a folder, which is made.
///
/// # Errors
/// [`DataError`] of the file system.
pub fn write_report(folder: &Path, report: &Report) -> Result<(), DataError> {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|source| DataError::Io { doing: "write", path, source })
    };
    let made = std::fs::create_dir_all(folder);
    made.map_err(|source| DataError::Io { doing: "write", path: folder.to_path_buf(), source })?;
    let json = serde_json::to_string_pretty(report).map_err(|error| DataError::Io {
        doing: "write",
        path: folder.join("report.json"),
        source: error.into(),
    })?;
    write("report.json", json + "\n")?;
    write("report.md", markdown(report))
}

fn summary(answers: &Answers) -> Option<ModelSummary> {
    let replies = &answers.replies;
    let texts: BTreeSet<&str> = replies.iter().map(|reply| reply.text.trim()).collect();
    let words: Vec<f64> = replies.iter().map(|reply| reply.text.split_whitespace().count() as f64).collect();
    let finished: Vec<f64> = replies.iter().map(|reply| f64::from(u8::from(reply.finished))).collect();
    Some(ModelSummary {
        name: answers.name.clone(),
        gold: mean_interval(&answers.gold)?,
        finished: mean(&finished),
        words: mean(&words),
        distinct: texts.len() as f64 / replies.len().max(1) as f64,
        parts: answers.parts.clone(),
        loss: answers.loss.map(|loss| loss.nats_per_token),
        bits_per_byte: answers.loss.map(|loss| loss.bits_per_byte()),
    })
}

/// Each model against the one before it; the last model (the top of the ladder) also against the
/// first, so that the whole way up stands in one line.
fn comparisons(evaluation: &Evaluation) -> Vec<Comparison> {
    let answers = &evaluation.answers;
    let models: Vec<&Answers> = answers.iter().filter(|one| one.name != "human").collect();
    let human = answers.iter().find(|one| one.name == "human");
    let mut pairs: Vec<(&Answers, &Answers)> = models.windows(2).map(|pair| (pair[1], pair[0])).collect();
    if models.len() > 2 {
        pairs.extend(models.last().zip(models.first()).map(|(last, first)| (*last, *first)));
    }
    pairs.extend(models.last().zip(human).map(|(last, human)| (*last, human)));
    let compare = |(a, b): (&Answers, &Answers)| {
        Some(Comparison {
            model: a.name.clone(),
            against: b.name.clone(),
            difference: paired_difference(&a.gold, &b.gold, evaluation.seed)?,
            win: win_rate(&a.gold, &b.gold)?,
        })
    };
    pairs.into_iter().filter_map(compare).collect()
}

fn samples(evaluation: &Evaluation) -> Vec<SampleRow> {
    let row = |(index, prompt): (usize, &String)| {
        let of = |answers: &Answers| {
            let mut text = answers.replies[index].text.trim().to_string();
            if !answers.replies[index].finished {
                text.push_str(" …");
            }
            (answers.name.clone(), text, answers.gold[index])
        };
        SampleRow { prompt: prompt.clone(), replies: evaluation.answers.iter().map(of).collect() }
    };
    evaluation.prompts.iter().enumerate().take(evaluation.shown).map(row).collect()
}
