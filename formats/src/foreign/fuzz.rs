//! Any bytes as a `tokenizer.json`, for a fuzzer.
//!
//! Purpose: [`fuzz`] panics when a rule of the module is broken.
//! Invariant: it is bounded in time and memory for bounded input.
//! Must not know: who makes the bytes.

use super::config::{Config, ModelConfigs};
use super::json::TokenizerJson;
use super::tokenizer::ForeignTokenizer;

/// Longer input is cut off: fuzzers find more in less.
const LONGEST: usize = 64 << 10;
/// Longer texts are cut off.
const LONGEST_TEXT: usize = 512;

/// Texts that reach borders of patterns and of Unicode.
const TEXTS: [&str; 6] = [
    "",
    "Hello, world! It's 12345 <s> </s> <|im_start|>user\n  x\t\r\n\u{a0}",
    "é e\u{301} ß 日本語 👩\u{200d}👧 \u{fdd0}\u{fdd1}\u{fdd2} \u{fdfa}\0",
    "                                                                        ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[((((((((((((((((((((((((((((",
];

/// Reads the bytes up to the first zero as a tokenizer and, if it is one, encodes and decodes a few texts, the bytes after
/// the zero among them.
///
/// # Panics
/// When a rule is broken.
pub fn fuzz(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (file, rest) = bytes.split_at(end);
    let Ok(json) = serde_json::from_slice::<TokenizerJson>(file) else { return };
    let contents: Vec<String> = json.added_tokens.0.iter().map(|token| token.content.clone()).collect();
    let configs = ModelConfigs { generation: None, model: None };
    // Without the cache, which each thread keeps for ever.
    let Ok(inner) = super::build::build(json, Config::default(), &configs, 0) else { return };
    let tokenizer = inner.shared();
    let own = String::from_utf8_lossy(&rest[..rest.len().min(LONGEST_TEXT)]);
    let spelled: String = contents.iter().take(8).flat_map(|token| [token.as_str(), " "]).collect();
    for text in TEXTS.into_iter().chain([own.as_ref(), &spelled]) {
        check(&tokenizer, text);
    }
}

/// What holds for every tokenizer and every text.
fn check(tokenizer: &ForeignTokenizer, text: &str) {
    let with_specials = tokenizer.encode_with_specials(text);
    let ids = tokenizer.encode(text);
    let document = tokenizer.encode_document(text);
    for &id in with_specials.iter().chain(&ids).chain(&document) {
        assert!((id as usize) < tokenizer.vocab_size(), "the id {id} is beyond the vocabulary");
    }
    if !text.contains('\u{fdd0}') {
        assert_eq!(tokenizer.encode_rendered(text), with_specials, "without marks nothing changes");
    }
    let marked = tokenizer.protect(text);
    assert_eq!(super::protect::unmark(&marked).0, text, "taking the marks out gives the text");
    // What merging makes of text without a mark stays, for then nothing may differ from the crate.
    if !tokenizer.merges_specials() {
        assert_eq!(tokenizer.encode_rendered(&marked), ids, "all of a protected text is text");
    }
    let mut stream = tokenizer.stream_decoder();
    let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
    streamed += &stream.finish();
    assert_eq!(streamed, tokenizer.decode(&ids), "a stream decodes as all at once");
    _ = tokenizer.decode_marked(&with_specials);
    _ = ids.iter().filter_map(|&id| tokenizer.token_bytes(id)).count();
    assert!(tokenizer.same_ids(tokenizer), "a tokenizer is like itself");
}
