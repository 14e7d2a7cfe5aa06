//! Plain text, and parts of it.

use super::super::{Example, Options, Text, open, span};
use super::{file, folder, rows, wrong};

fn cut_at_space(text: &str) -> Option<usize> {
    text.rfind(' ')
}

/// The texts of a path in parts.
fn parts(path: &std::path::Path) -> Vec<Text> {
    let options = Options { cut: Some(cut_at_space), ..Options::default() };
    let texts = open(path, &options).unwrap().map(|row| match row.unwrap().1 {
        Example::Text(text) => text,
        other => panic!("{other:?} is no text"),
    });
    texts.collect()
}

#[test]
fn a_file_of_text_is_one_document_and_a_blank_one_is_none() {
    let folder =
        folder(&[("a.txt", "\u{feff}Words.\n".as_bytes()), ("b.md", b"More."), ("blank.txt", b" \n\t")]);
    let texts: Vec<_> = rows(folder.path()).into_iter().map(|row| row["text"].clone()).collect();
    assert_eq!(texts, ["Words.\n", "More."], "a file of another name in a folder of texts is text");
}

#[test]
fn a_long_text_comes_in_parts_that_end_where_they_may() {
    let long = "zwölf Birnen, ".repeat(1 << 20);
    let folder = folder(&[("a.txt", long.as_bytes()), ("b.txt", b"the birds")]);
    let parts = parts(folder.path());
    assert!(parts.len() > 3 && parts.iter().all(|part| part.text.len() <= 8 << 20), "{}", parts.len());
    let ends: Vec<usize> = (0..parts.len()).filter(|&i| parts[i].ends).collect();
    assert_eq!(ends, [parts.len() - 2, parts.len() - 1], "each document ends once");
    assert!(parts[1..parts.len() - 1].iter().all(|part| part.text.starts_with(' ')));
    assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), long.clone() + "the birds");
    assert_eq!(rows(folder.path())[0]["text"], long, "without cuts it comes whole");
}

#[test]
fn a_text_of_exactly_a_block_has_no_empty_part() {
    for size in [(4 << 20) - 1, 4 << 20, (4 << 20) + 1, 8 << 20] {
        let (_folder, path) = file("a.txt", "word ".repeat(size / 5 + 1).split_at(size).0);
        let parts = parts(&path);
        assert!(
            parts.iter().all(|part| !part.text.is_empty())
                && parts.iter().filter(|part| part.ends).count() == 1
        );
    }
}

#[test]
fn a_byte_that_is_not_utf8_is_named_by_its_place_in_a_long_file() {
    const ADVICE: &str = "; convert the file (for Latin-1: iconv -f ISO-8859-1 -t UTF-8)";
    assert_eq!(wrong("a.txt", b"caf\xe9"), format!("a.txt: it is not UTF-8 at byte 3 (0xE9){ADVICE}"));
    for at in [(4 << 20) + 5, (12 << 20) - 2] {
        let at = at - at % 3;
        let mut bytes = "ö ".repeat(4 << 20).into_bytes();
        bytes[at] = 0xc3;
        bytes[at + 1] = 0x20;
        let (_folder, path) = file("a.txt", &bytes);
        let options = Options { cut: Some(cut_at_space), ..Options::default() };
        let error = match open(&path, &options) {
            Err(error) => error,
            Ok(reader) => reader.map(Result::err).find(Option::is_some).flatten().unwrap(),
        };
        assert!(error.to_string().contains(&format!("at byte {at} (0xC3)")), "{error}");
    }
}

#[test]
fn texts_are_held_out_by_their_bytes_and_no_character_is_cut() {
    let long = "the sün rose ö ".repeat(9);
    let folder = folder(&[("a.txt", long.as_bytes()), ("b.txt", b"the birds"), ("c.txt", "ö".as_bytes())]);
    let whole = parts(folder.path());
    let bytes: u64 = whole.iter().map(|text| text.text.len() as u64).sum();
    let within = |range: std::ops::Range<u64>| -> Vec<Text> {
        span(parts(folder.path()).into_iter().map(Ok::<_, ()>), range).map(Result::unwrap).collect()
    };
    let joined = |texts: &[Text]| texts.iter().map(|text| text.text.as_str()).collect::<String>();
    for at in 0..=bytes {
        let (training, held_out) = (within(0..at), within(at..bytes));
        assert_eq!(joined(&training) + &joined(&held_out), joined(&whole), "at {at}");
        assert_eq!(held_out.is_empty(), at == bytes, "whatever is left holds out at least a character");
        let pieces = training.len() + held_out.len();
        assert!((3..=4).contains(&pieces), "no document is joined with another: {pieces} at {at}");
        assert!(training.iter().chain(&held_out).all(|text| text.ends && !text.text.is_empty()));
    }
}

#[test]
fn a_document_that_comes_in_parts_is_held_out_in_parts() {
    let text = |text: &str, ends| Ok::<_, ()>(Text { text: text.into(), ends });
    let all = || [text("ab", false), text("cd", false), text("ef", true), text("gh", true)].into_iter();
    let within = |range| -> Vec<(String, bool)> {
        span(all(), range).map(Result::unwrap).map(|text| (text.text, text.ends)).collect()
    };
    assert_eq!(within(0..3), [("ab".into(), false), ("c".into(), true)]);
    assert_eq!(within(3..8), [("d".into(), false), ("ef".into(), true), ("gh".into(), true)]);
    assert_eq!(within(0..4), [("ab".into(), false), ("cd".into(), true)]);
    assert_eq!(within(6..8), [("gh".into(), true)]);
}
