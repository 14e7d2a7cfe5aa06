//! The tokens that stand around a text.
//!
//! Purpose: what a post-processor puts before and after a text: BOS, EOS.
//! Invariant: their number is bounded; the text stands between them once.
//! Must not know: texts.

use serde_json::Value;

use super::super::error::{ForeignError, Object};
use super::super::json::MOST_TOKENS;

/// Parts of a sequence, pieces of a template, tokens of a piece.
const MOST_PARTS: usize = 32;
/// Sequences in sequences.
const DEEPEST: usize = 4;

/// The tokens before and after a text.
#[derive(Debug, Default, Clone, PartialEq)]
pub(in crate::foreign) struct Around {
    pub(in crate::foreign) before: Vec<u32>,
    pub(in crate::foreign) after: Vec<u32>,
}

impl Around {
    /// Reads the post-processor of a file.
    pub(in crate::foreign) fn read(value: &Value) -> Result<Self, ForeignError> {
        let mut around = Self::default();
        if !value.is_null() {
            around.part(&Object::new(value, "post_processor"), 0)?;
        }
        Ok(around)
    }

    fn part(&mut self, object: &Object<'_>, depth: usize) -> Result<(), ForeignError> {
        match object.kind()? {
            "Sequence" if depth == DEEPEST => {
                Err(object.error(format!("sequences are nested more than {DEEPEST} deep")))
            }
            "Sequence" => {
                let parts = object.objects("processors", MOST_PARTS)?;
                parts.iter().try_for_each(|part| self.part(part, depth + 1))
            }
            // It changes where tokens stand, not which they are.
            "ByteLevel" => Ok(()),
            "TemplateProcessing" => self.template(object),
            "RobertaProcessing" | "BertProcessing" => {
                self.before.insert(0, pair(object, "cls")?);
                self.after.push(pair(object, "sep")?);
                Ok(())
            }
            other => Err(object.error(format!("the type `{other}` is not a known post-processor"))),
        }
    }

    fn template(&mut self, object: &Object<'_>) -> Result<(), ForeignError> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut seen = false;
        for piece in object.objects("single", MOST_PARTS)? {
            match (piece.get("Sequence"), piece.get("SpecialToken")) {
                (Some(text), None) => {
                    if seen || text.get("id").and_then(Value::as_str) != Some("A") {
                        return Err(piece.error("a template for one text has it once, as the sequence A"));
                    }
                    seen = true;
                }
                (None, Some(token)) => {
                    let ids = template_ids(object, token.get("id").and_then(Value::as_str))?;
                    (if seen { &mut after } else { &mut before }).extend(ids);
                }
                _ => return Err(piece.error("this has to be a Sequence or a SpecialToken")),
            }
        }
        if !seen {
            return Err(object.field_error("single", "the text itself is missing: the sequence A"));
        }
        // A later processor puts its tokens around those of the earlier ones.
        self.before.splice(0..0, before);
        self.after.extend(after);
        Ok(())
    }
}

/// The ids of a template's token.
fn template_ids(object: &Object<'_>, name: Option<&str>) -> Result<Vec<u32>, ForeignError> {
    let name = name.unwrap_or_default();
    let place = format!("special_tokens.{name}.ids");
    let ids = object.get("special_tokens").and_then(|tokens| tokens.get(name)?.get("ids")?.as_array());
    let Some(ids) = ids.filter(|ids| ids.len() <= MOST_PARTS) else {
        return Err(object.field_error(&place, format!("this has to be a list of at most {MOST_PARTS} ids")));
    };
    ids.iter().map(|id| self::id(id).ok_or_else(|| object.field_error(&place, "this is not an id"))).collect()
}

/// The id in a pair of a token and its id.
fn pair(object: &Object<'_>, key: &str) -> Result<u32, ForeignError> {
    let found = object.get(key).and_then(|pair| id(pair.get(1)?));
    found.ok_or_else(|| object.field_error(key, "this has to be a token and its id"))
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().filter(|&id| id < MOST_TOKENS as u64).and_then(|id| u32::try_from(id).ok())
}
