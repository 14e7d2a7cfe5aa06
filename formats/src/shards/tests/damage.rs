//! Tokens that are damaged.

use proptest::prelude::*;

use super::super::{Spec, Tokens, fuzz};
use super::{DIGEST, documents, write};

/// A folder of one masked shard, after a change to a file of it.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec { masked: true, ..Spec::new(10, DIGEST) };
    write(folder.path(), &spec, &documents(&[5, 7], 10));
    let path = folder.path().join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let error = match Tokens::open(folder.path()) {
        Err(error) => error,
        Ok(tokens) => tokens.verify().unwrap_err(),
    };
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

/// Replaces a part of a text.
fn replace<'a>(from: &'a str, to: &'a str) -> impl FnOnce(&mut Vec<u8>) + 'a {
    move |bytes| {
        let at = bytes.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        bytes.splice(at..at + from.len(), to.bytes());
    }
}

#[test]
fn a_size_a_place_or_an_id_that_is_wrong_is_an_error_that_says_so() {
    const AGAIN: &str = "; tokenize the data again";
    const SHARD: &str = "00000.tokens";
    let cases = [
        (
            changed("index.json", replace("\"documents\": 2", "\"documents\": 3")),
            "index.json: its shards do not add up to what it says",
        ),
        (
            changed("index.json", replace("kiln.tokens/1", "kiln.tokens/9")),
            "index.json: its format is `kiln.tokens/9`, and `kiln.tokens/1` is read",
        ),
        (
            changed("index.json", replace(SHARD, "../00.tokens")),
            "index.json: shard 0 should be named `00000.tokens`",
        ),
        (
            changed("index.json", replace("0123456789abcdef", "X123456789abcdef")),
            "index.json: its `tokenizer` is no SHA-256 in hexadecimal",
        ),
        (
            changed("index.json", replace("\"u16\"", "\"u32\"")),
            "index.json: a vocabulary of 10 does not go with its dtype",
        ),
        (
            changed("index.json", replace("\"vocab_size\": 10", "\"vocab_size\": 9")),
            "00000.tokens: its header is not what index.json says of it",
        ),
        (changed(SHARD, |bytes| bytes.truncate(1000)), "00000.tokens: it is too short for its header"),
        (
            changed(SHARD, |bytes| bytes.truncate(1060)),
            "00000.tokens: it has 1060 bytes, and its header tells of 1074",
        ),
        (
            changed(SHARD, |bytes| bytes.push(0)),
            "00000.tokens: it has 1075 bytes, and its header tells of 1074",
        ),
        (changed(SHARD, |bytes| bytes[1056] = 12), "00000.tokens: the places of its documents are damaged"),
        (changed(SHARD, |bytes| bytes[1048] = 1), "00000.tokens: the places of its documents are damaged"),
        (
            changed(SHARD, |bytes| bytes[1024 + 6] = 10),
            "00000.tokens: token 3 has the id 10, beyond the vocabulary of 10",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, format!("{expected}{AGAIN}"));
    }
    let header = changed(SHARD, |bytes| bytes[3] = b'x');
    assert!(header.starts_with("00000.tokens: its header is damaged: "), "{header}");
    let index = changed("index.json", |bytes| bytes.truncate(30));
    assert!(index.starts_with("index.json: it is no index: "), "{index}");
}

#[test]
fn a_header_that_claims_more_than_there_is_takes_no_memory_for_it() {
    let claim = "\"documents\":2,\"tokens\":12";
    let found = changed("00000.tokens", replace(claim, "\"documents\":9,\"tokens\":72057594037927936"));
    assert_eq!(found, "00000.tokens: its header is not what index.json says of it; tokenize the data again");
    let found = changed("index.json", replace("\"tokens\": 12", "\"tokens\": 18446744073709551615"));
    assert!(found.contains("2 documents cannot have 18446744073709551615 tokens"), "{found}");
}

proptest! {
    #[test]
    fn bytes_that_are_changed_are_tokens_or_an_error(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &Spec { masked: true, ..Spec::new(10, DIGEST) }, &documents(&[5, 7, 30], 10));
        let index = std::fs::read(folder.path().join("index.json")).unwrap();
        let shard = std::fs::read(folder.path().join("00000.tokens")).unwrap();
        let mut bytes = [&(index.len() as u16).to_le_bytes()[..], &index, &shard].concat();
        fuzz::shards(&bytes);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz::shards(&bytes);
    }
}
