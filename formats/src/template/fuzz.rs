//! A chat template and its input from any bytes.
//!
//! Purpose: a fuzz target: hostile templates over hostile messages.
//! Invariant: it writes nothing and ends; it panics when a rule is broken.
//! Must not know: who makes the bytes.

use std::collections::BTreeMap;

use super::{ChatTemplate, Data, Input};
use crate::template::bounds::MAX_OUTPUT;

/// Renders the template before the first zero byte with the messages behind it, twice. A place of an error must be in the
/// template, both renderings must be the same, and marks must lie in the text, in order.
pub fn fuzz(bytes: &[u8]) {
    let (source, rest) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    let source = String::from_utf8_lossy(source);
    let template = match ChatTemplate::new(&source) {
        Ok(template) => template,
        Err(error) => {
            let lines = source.split(['\n', '\r']).count();
            assert!(error.place().is_none_or(|place| (1..=lines.max(1)).contains(&place.line)), "{error}");
            return;
        }
    };
    let default = r#"[{"role":"user","content":"a"},{"role":"assistant","content":["b"],"n":1.5}]"#;
    let messages = std::str::from_utf8(rest).ok().and_then(|text| Data::from_json(text).ok());
    let Ok(default) = Data::from_json(default) else { return };
    let messages = messages.unwrap_or(default);
    let (tokens, more) = (BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]), BTreeMap::new());
    let input = Input {
        messages: &messages,
        tools: None,
        documents: None,
        add_generation_prompt: true,
        tokens: &tokens,
        more: &more,
    };
    let first = template.render(&input);
    assert_eq!(first, template.clone().render(&input));
    if let Ok(rendered) = first {
        assert!(rendered.text.len() <= MAX_OUTPUT);
        let mut last = 0;
        for range in &rendered.generated {
            assert!(last <= range.start && range.start <= range.end, "{range:?}");
            assert!(rendered.text.get(range.clone()).is_some(), "{range:?}");
            last = range.end;
        }
    }
}
