//! UltraFeedback.
//!
//! Purpose: an instruction and several completions, each with a score.
//! Invariant: there are at least two completions, and every score is a finite number.
//! Must not know: pairs.
//!
//! The score is `overall_score`, else `score`, else `fine-grained_score`, else the mean of the ratings in `annotations`
//! (those that are `N/A` are left out). In the published data an `overall_score` of 10 stands where the critic gave 1, a known
//! fault (issue 8 of OpenBMB/UltraFeedback): where the ratings, which go from 1 to 5, have a mean below 3, such a 10 is read as 1.

use super::super::error::Fault;
use super::super::example::Ranked;
use super::super::json::{Fields, Json};
use super::super::row::Row;
use super::asked;
use super::fields::{kind, list, needed, number, string};

/// A row of UltraFeedback.
pub(super) fn parse(row: &mut Row) -> Result<Ranked, Fault> {
    let prompt = asked::needed(row, "instruction")?;
    let (field, value) = needed(row, &["completions"])?;
    let list = list(value, field)?;
    if list.len() < 2 {
        return Err(Fault::new(
            field,
            format!("a ranking needs at least two completions, found {}", list.len()),
        ));
    }
    let completions: Result<Vec<(String, f64)>, Fault> = list
        .into_iter()
        .enumerate()
        .map(|(place, value)| completion(value, &format!("{field}[{place}]")))
        .collect();
    Ok(Ranked { prompt, completions: completions? })
}

fn completion(value: Json, field: &str) -> Result<(String, f64), Fault> {
    let Json::Object(mut completion) = value else {
        let what = format!("expected {{\"response\", \"overall_score\"}}, found {}", kind(&value));
        return Err(Fault::new(field, what));
    };
    let response = completion.take("response");
    let response = response.ok_or_else(|| Fault::new(format!("{field}.response"), "it is missing"))?;
    Ok((string(response, &format!("{field}.response"))?, score(&completion, field)?))
}

fn score(completion: &Fields, field: &str) -> Result<f64, Fault> {
    let ratings = ratings(completion, field)?;
    for name in ["overall_score", "score", "fine-grained_score"] {
        let Some(value) = completion.get(name) else { continue };
        let score = number(value, &format!("{field}.{name}"))?;
        let is_mistaken = name == "overall_score" && score == 10.0 && ratings.is_some_and(|mean| mean < 3.0);
        return Ok(if is_mistaken { 1.0 } else { score });
    }
    ratings.ok_or_else(|| {
        let what = "it has no score; expected `overall_score`, `score`, or ratings in `annotations`";
        Fault::new(field, what)
    })
}

/// The mean of the ratings, where there are some.
fn ratings(completion: &Fields, field: &str) -> Result<Option<f64>, Fault> {
    let annotations = match completion.get("annotations") {
        None => return Ok(None),
        Some(Json::Object(annotations)) => annotations,
        Some(other) => {
            return Err(Fault::new(
                format!("{field}.annotations"),
                format!("expected an object, found {}", kind(other)),
            ));
        }
    };
    let (mut sum, mut count) = (0.0, 0.0);
    for (aspect, annotation) in annotations.iter() {
        let Some(rating) = annotation.get("Rating") else { continue };
        if rating.as_str().is_some_and(|text| matches!(text.trim(), "N/A" | "")) {
            continue;
        }
        sum += number(rating, &format!("{field}.annotations.{aspect}.Rating"))?;
        count += 1.0;
    }
    Ok((count > 0.0).then(|| sum / count))
}
