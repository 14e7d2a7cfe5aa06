//! Tests of tokens on disk.

mod damage;
mod order;
mod rows;

use std::path::Path;

use super::{Spec, Summary, Tokens, Writer};

/// A digest of some tokenizer.
const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Documents with a mask each.
type Documents = Vec<(Vec<u32>, Vec<bool>)>;

/// Documents of these lengths, with ids below the vocabulary.
fn documents(lengths: &[usize], vocab_size: u32) -> Documents {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u32
    };
    lengths
        .iter()
        .map(|&length| {
            let ids = (0..length).map(|_| next() % vocab_size).collect();
            (ids, (0..length).map(|_| next() % 3 == 0).collect())
        })
        .collect()
}

fn write(folder: &Path, spec: &Spec, documents: &Documents) -> Summary {
    let mut writer = Writer::create(folder, spec).unwrap();
    for (ids, mask) in documents {
        writer.document(ids, spec.masked.then_some(mask)).unwrap();
    }
    writer.finish().unwrap()
}

/// Tokens of documents of these lengths.
fn tokens(lengths: &[usize], shard_tokens: u64) -> (tempfile::TempDir, Tokens) {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec { shard_tokens, ..Spec::new(1000, DIGEST) };
    write(folder.path(), &spec, &documents(lengths, 1000));
    let tokens = Tokens::open(folder.path()).unwrap();
    (folder, tokens)
}

#[test]
fn documents_are_read_as_they_were_written_in_either_width_with_and_without_a_mask() {
    let lengths = [3, 1, 8, 7, 64, 1, 30, 5, 9, 2];
    for vocab_size in [300, 1 << 16, (1 << 16) + 1, u32::MAX] {
        for masked in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let documents = documents(&lengths, vocab_size);
            let spec = Spec { masked, shard_tokens: 20, ..Spec::new(vocab_size, DIGEST) };
            let summary = write(folder.path(), &spec, &documents);
            assert_eq!(summary, Summary { documents: 10, tokens: 130, shards: 3 });
            let tokens = Tokens::open(folder.path()).unwrap();
            tokens.verify().unwrap();
            assert_eq!((tokens.documents(), tokens.tokens()), (10, 130));
            assert_eq!(
                (tokens.vocab_size(), tokens.tokenizer(), tokens.is_masked()),
                (vocab_size, DIGEST, masked)
            );
            for (number, (ids, mask)) in (0..).zip(&documents) {
                let read = tokens.document(number).unwrap();
                assert_eq!(&read.ids, ids, "document {number}");
                assert_eq!(read.mask, if masked { mask.clone() } else { vec![true; ids.len()] });
                let middle = ids.len() as u64 / 3..ids.len() as u64 / 2;
                let piece = tokens.piece(number, middle.clone()).unwrap();
                assert_eq!(piece.ids, ids[middle.start as usize..middle.end as usize]);
                assert_eq!(piece.mask, read.mask[middle.start as usize..middle.end as usize]);
            }
            assert!(tokens.document(10).is_err() && tokens.piece(1, 0..2).is_err() && tokens.length(10) == 0);
        }
    }
}

#[test]
fn the_same_documents_are_the_same_bytes_however_they_are_handed_over() {
    let documents = documents(&[5, 100, 3, 77], 500);
    let spec = Spec { masked: true, shard_tokens: 90, ..Spec::new(500, DIGEST) };
    let whole = tempfile::tempdir().unwrap();
    write(whole.path(), &spec, &documents);
    let parts = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&parts.path().join("new"), &spec).unwrap();
    for (ids, mask) in &documents {
        for (ids, mask) in ids.chunks(7).zip(mask.chunks(7)) {
            writer.tokens(ids, Some(mask)).unwrap();
        }
        writer.end_document().unwrap();
    }
    writer.finish().unwrap();
    let names = ["00000.tokens", "00001.tokens", "index.json"];
    for name in names {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert!(read(whole.path()) == read(&parts.path().join("new")), "{name}");
    }
    assert_eq!(std::fs::read_dir(whole.path()).unwrap().count(), names.len());
    let header = std::fs::read(whole.path().join("00000.tokens")).unwrap();
    let expected = format!(
        "{{\"format\":\"kiln.tokens/1\",\"dtype\":\"u16\",\"documents\":2,\"tokens\":105,\"mask\":true,\"vocab_size\":500,\
         \"tokenizer\":\"{DIGEST}\"}}"
    );
    assert_eq!(String::from_utf8_lossy(&header[..1024]), format!("{expected:<1023}\n"));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec { masked: true, ..Spec::new(10, DIGEST) };
    let wrong = |spec: &Spec| Writer::create(folder.path(), spec).unwrap_err().to_string();
    assert!(wrong(&Spec { tokenizer: "abc".into(), ..spec.clone() }).contains("no SHA-256"));
    assert!(wrong(&Spec { vocab_size: 0, ..spec.clone() }).contains("at least one token"));
    let mut writer = Writer::create(folder.path(), &spec).unwrap();
    let said = |result: Result<(), super::ShardError>| result.unwrap_err().to_string();
    assert_eq!(said(writer.end_document()), "a document has at least one token");
    assert_eq!(said(writer.tokens(&[9, 10], Some(&[true; 2]))), "token 10 is beyond the vocabulary of 10");
    assert!(said(writer.tokens(&[9], None)).contains("a mask has a bit for each token"));
    assert!(said(writer.tokens(&[9], Some(&[]))).contains("a mask has a bit for each token"));
    writer.tokens(&[9], Some(&[true])).unwrap();
    assert_eq!(writer.finish().unwrap_err().to_string(), "the last document was not ended");
    assert!(Tokens::open(folder.path()).is_err(), "a folder without its index is unfinished");
    let empty = Writer::create(folder.path(), &spec).unwrap();
    assert_eq!(empty.finish().unwrap_err().to_string(), "there is no document");
    write(folder.path(), &spec, &documents(&[3], 10));
    assert!(wrong(&spec).contains("holds tokens already"));
}
