//! Renders chat templates: a line of JSON in, a line of JSON out.
//!
//! Purpose: lets `formats/tests/templates.py` compare our rendering with that of transformers. A line holds `template`,
//! `messages` and, where there are any, `tools`, `documents`, `add_generation_prompt`, `tokens` and `more`; the answer holds
//! `text`, `generated` (ranges of bytes) and `unplaced`, or `error`.
//! Must not know: transformers.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Write};

use kiln_formats::template::{ChatTemplate, Data, Input, TemplateError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    template: String,
    messages: Data,
    #[serde(default)]
    tools: Option<Data>,
    #[serde(default)]
    documents: Option<Data>,
    #[serde(default)]
    add_generation_prompt: bool,
    #[serde(default)]
    tokens: BTreeMap<String, String>,
    #[serde(default)]
    more: BTreeMap<String, Data>,
}

fn answer(
    case: &Case,
    templates: &mut HashMap<String, ChatTemplate>,
) -> Result<serde_json::Value, TemplateError> {
    if !templates.contains_key(&case.template) {
        templates.insert(case.template.clone(), ChatTemplate::new(&case.template)?);
    }
    let input = Input {
        messages: &case.messages,
        tools: case.tools.as_ref(),
        documents: case.documents.as_ref(),
        add_generation_prompt: case.add_generation_prompt,
        tokens: &case.tokens,
        more: &case.more,
    };
    let rendered = templates[&case.template].render(&input)?;
    let generated: Vec<_> = rendered.generated.iter().map(|range| [range.start, range.end]).collect();
    Ok(serde_json::json!({"text": rendered.text, "generated": generated, "unplaced": rendered.unplaced}))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut templates = HashMap::new();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let case: Case = serde_json::from_str(&line?)?;
        let answer = answer(&case, &mut templates);
        let answer = answer.unwrap_or_else(|error| serde_json::json!({"error": error.to_string()}));
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
