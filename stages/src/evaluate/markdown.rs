//! The report for people.
//!
//! Purpose: write a report as Markdown: first what it comes to in words, then the tables, then the
//! same prompts answered by everybody.
//! Invariants: texts from models cannot break a table or become markup; the same report gives the
//! same bytes.
//! Must not know: how the numbers were made.

use std::fmt::Write as _;

use super::report::{Comparison, Report};
use super::stats::Interval;

/// The whole report.
pub(super) fn markdown(report: &Report) -> String {
    let mut out = format!("# Evaluation on {} held-out prompts\n\n", report.prompts);
    for comparison in &report.comparisons {
        let _ = writeln!(out, "- {}", in_words(comparison));
    }
    out.push_str("\nEvery number in brackets is a 95 % interval. Gold runs from -1 (never ended) to 1.\n");
    models(&mut out, report);
    comparisons(&mut out, report);
    parts(&mut out, report);
    best_of_n(&mut out, report);
    samples(&mut out, report);
    out
}

fn in_words(comparison: &Comparison) -> String {
    let Comparison { model, against, difference, win } = comparison;
    let verdict = if difference.low > 0.0 {
        "is better than"
    } else if difference.high < 0.0 {
        "is worse than"
    } else {
        "cannot be told apart from"
    };
    let (model, against) = (cell(model), cell(against));
    let percent = 100.0 * win.rate.value;
    format!(
        "**{model}** {verdict} **{against}**: gold {}, better in {percent:.0} % of prompts.",
        signed(difference)
    )
}

fn models(out: &mut String, report: &Report) {
    out.push_str("\n## Models\n\n| model | gold | ended | words | distinct | loss | bits/byte |\n");
    out.push_str("|---|---|---:|---:|---:|---:|---:|\n");
    let number = |value: Option<f64>| value.map_or("–".to_string(), |value| format!("{value:.3}"));
    for model in &report.models {
        let _ = writeln!(
            out,
            "| {} | {} | {:.0} % | {:.1} | {:.0} % | {} | {} |",
            cell(&model.name),
            plain(&model.gold),
            100.0 * model.finished,
            model.words,
            100.0 * model.distinct,
            number(model.loss),
            number(model.bits_per_byte)
        );
    }
}

fn comparisons(out: &mut String, report: &Report) {
    if report.comparisons.is_empty() {
        return;
    }
    out.push_str("\n## Side by side\n\n| model | against | gold more | better in | wins / ties / losses |\n");
    out.push_str("|---|---|---|---|---|\n");
    for Comparison { model, against, difference, win } in &report.comparisons {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.0} % [{:.0}, {:.0}] | {} / {} / {} |",
            cell(model),
            cell(against),
            signed(difference),
            100.0 * win.rate.value,
            100.0 * win.rate.low,
            100.0 * win.rate.high,
            win.wins,
            win.ties,
            win.losses
        );
    }
}

fn parts(out: &mut String, report: &Report) {
    let Some(names) = report.models.iter().map(|model| &model.parts).find(|parts| !parts.is_empty()) else {
        return;
    };
    out.push_str("\n## What gold sees\n\n| part |");
    for model in &report.models {
        let _ = write!(out, " {} |", cell(&model.name));
    }
    let _ = writeln!(out, "\n|---|{}", "---:|".repeat(report.models.len()));
    for (name, _) in names {
        let _ = write!(out, "| {} |", cell(name));
        for model in &report.models {
            match model.parts.iter().find(|(other, _)| other == name) {
                Some((_, value)) => drop(write!(out, " {value:.2} |")),
                None => out.push_str(" – |"),
            }
        }
        out.push('\n');
    }
}

fn best_of_n(out: &mut String, report: &Report) {
    if report.best_of_n.is_empty() {
        return;
    }
    out.push_str("\n## Best of n by the reward model\n\n| n | KL at most | gold |\n|---:|---:|---|\n");
    for point in &report.best_of_n {
        let _ = writeln!(out, "| {} | {:.2} | {} |", point.n, point.kl, plain(&point.gold));
    }
}

fn samples(out: &mut String, report: &Report) {
    if report.samples.is_empty() {
        return;
    }
    out.push_str("\n## The same prompts, answered by each\n");
    for row in &report.samples {
        let _ = writeln!(out, "\n> {}\n\n| | gold | reply |\n|---|---:|---|", cell(&row.prompt));
        for (name, reply, gold) in &row.replies {
            let _ = writeln!(out, "| {} | {gold:.2} | {} |", cell(name), cell(reply));
        }
    }
}

fn plain(interval: &Interval) -> String {
    format!("{:.3} [{:.3}, {:.3}]", interval.value, interval.low, interval.high)
}

fn signed(interval: &Interval) -> String {
    format!("{:+.3} [{:+.3}, {:+.3}]", interval.value, interval.low, interval.high)
}

/// A text as it may stand in a table: one line, nothing that Markdown or HTML would act on.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Completion;
    use crate::evaluate::{Answers, Evaluation, EvaluationError, Scored, ValidationLoss, write_report};

    fn answers(name: &str, gold: [f64; 4]) -> Answers {
        let reply = |k: usize| Completion {
            text: format!("{name} says {k} | <b>"),
            finished: k != 1,
            tokens: Vec::new(),
        };
        Answers {
            name: name.into(),
            replies: (0..4).map(reply).collect(),
            gold: gold.to_vec(),
            parts: vec![("known".into(), 0.5)],
            loss: (name != "human").then_some(ValidationLoss {
                nats_per_token: 2.0,
                tokens: 100,
                bytes: 300,
            }),
        }
    }

    fn evaluation() -> Evaluation {
        let sampled = [0.1, 0.5, 0.9].map(|gold| Scored { proxy: gold, gold });
        Evaluation {
            prompts: (0..4).map(|k| format!("What of {k}?")).collect(),
            answers: vec![
                answers("base", [-1.0, -0.9, -0.8, -0.9]),
                answers("sft", [0.1, 0.2, 0.3, 0.2]),
                answers("policy", [0.8, 0.9, 0.8, 0.7]),
                answers("human", [0.8, 0.9, 0.8, 0.7]),
            ],
            best_of_n: vec![sampled.to_vec(); 4],
            shown: 2,
            seed: 1,
        }
    }

    #[test]
    fn the_metrics_have_the_names_that_other_tools_read() {
        let metrics = Report::new(&evaluation()).unwrap().metrics;
        let names = [
            "gold/base",
            "gold/base/low",
            "gold/base/high",
            "gold/sft",
            "gold/policy",
            "gold/human",
            "win/policy/sft",
            "win/policy/sft/low",
            "difference/sft/base",
            "best_of/3",
            "loss/base",
            "bits_per_byte/policy",
            "finished/sft",
        ];
        for name in names {
            assert!(metrics.contains_key(name), "{name} is missing");
        }
        assert!((metrics["gold/sft"] - 0.2).abs() < 1e-12);
        assert_eq!(metrics["win/policy/sft"], 1.0);
        assert_eq!(metrics["finished/sft"], 0.75);
    }

    #[test]
    fn the_report_says_in_words_who_is_better() {
        let text = markdown(&Report::new(&evaluation()).unwrap());
        for sentence in [
            "**sft** is better than **base**: gold +1.100",
            "**policy** is better than **sft**: gold +0.600",
            "**policy** cannot be told apart from **human**: gold +0.000",
        ] {
            assert!(text.contains(sentence), "{sentence} is missing from\n{text}");
        }
    }

    #[test]
    fn what_models_say_cannot_break_a_table() {
        let text = markdown(&Report::new(&evaluation()).unwrap());
        assert!(text.contains("| sft | 0.10 | sft says 0 \\| &lt;b&gt; |"), "{text}");
        assert!(!text.contains("<b>"));
    }

    #[test]
    fn the_same_evaluation_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str| {
            let folder = folder.path().join(name);
            write_report(&folder, &Report::new(&evaluation()).unwrap()).unwrap();
            ["report.json", "report.md"].map(|file| std::fs::read_to_string(folder.join(file)).unwrap())
        };
        let first = written("a");
        assert_eq!(first, written("b"));
        let json: serde_json::Value = serde_json::from_str(&first[0]).unwrap();
        assert_eq!(json["schema"], "kiln.eval/1");
        assert_eq!(json["samples"][1]["replies"][2][1], "policy says 1 | <b> …");
    }

    #[test]
    fn answers_that_do_not_fit_are_named() {
        let mut wrong = evaluation();
        wrong.answers[1].gold.pop();
        let error = Report::new(&wrong).unwrap_err();
        assert_eq!(error, EvaluationError::Unequal { name: "sft".into(), replies: 4, gold: 3, prompts: 4 });
        wrong = evaluation();
        wrong.answers[0].gold[2] = f64::NAN;
        assert_eq!(
            Report::new(&wrong).unwrap_err(),
            EvaluationError::NotFinite { name: "base".into(), prompt: 3 }
        );
    }
}
