//! Corpora of files and of rows.

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let inside = |document: Document| {
        let path = document.source.path().to_path_buf();
        path.strip_prefix(folder).unwrap().to_string_lossy().into_owned()
    };
    Corpus::open(folder).unwrap().documents.into_iter().map(inside).collect()
}

#[test]
fn every_folder_is_looked_into_however_deep_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let deep = (0..40).fold(folder.path().to_path_buf(), |path, i| path.join(format!("d{i}")));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("a.txt"), "text").unwrap();
    assert_eq!(names(folder.path()).len(), 1);
}

fn written(texts: &[&str]) -> (tempfile::TempDir, Corpus) {
    let folder = tempfile::tempdir().unwrap();
    for (i, text) in texts.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{i:02}.txt")), text).unwrap();
    }
    let corpus = Corpus::open(folder.path()).unwrap();
    (folder, corpus)
}

fn texts(corpus: &Corpus) -> Vec<String> {
    corpus.documents.iter().map(|d| d.parts(|_| None).map(|part| part.unwrap().text).collect()).collect()
}

#[test]
fn a_folder_is_read_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("b")).unwrap();
    for name in ["c.txt", "a.txt", "b/z.txt", "b/a.txt", ".hidden"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
    assert_eq!(names(folder.path()), ["a.txt", "b/a.txt", "b/z.txt", "c.txt"]);
}

#[test]
fn a_file_is_a_corpus_of_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, "Words.").unwrap();
    assert_eq!(texts(&Corpus::open(&path).unwrap()), ["Words."]);
}

#[test]
fn text_that_is_not_utf8_is_named_with_its_byte() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("latin.txt"), b"caf\xe9").unwrap();
    let message = read_corpus(folder.path()).unwrap_err().to_string();
    assert!(message.contains("latin.txt is not UTF-8 at byte 3"), "{message}");
}

#[test]
fn a_byte_order_mark_is_no_text() {
    let (_folder, corpus) = written(&["\u{feff}Words.", "\u{feff}", "ö\u{feff}"]);
    assert_eq!(texts(&corpus), ["Words.", "ö\u{feff}"]);
}

#[test]
fn a_corpus_without_text_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read_corpus(folder.path()), Err(DataError::Empty { .. })));
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_counts_as_the_file_and_one_to_a_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (blob, corpus) = (folder.path().join("blob"), folder.path().join("corpus"));
    std::fs::write(&blob, "Words.").unwrap();
    std::fs::create_dir(&corpus).unwrap();
    std::os::unix::fs::symlink(&blob, corpus.join("a.txt")).unwrap();
    std::os::unix::fs::symlink(&corpus, corpus.join("circle")).unwrap();
    assert_eq!(names(&corpus), ["a.txt"]);
}

#[test]
fn the_end_of_the_text_is_held_out_and_cut_at_a_character() {
    let long = "the sün rose ö ".repeat(9);
    let (_folder, corpus) = written(&[&long, "the birds", "ö"]);
    for hundredth in 0..=50 {
        let (training, held) = corpus.clone().split(f64::from(hundredth) / 100.0).unwrap();
        let (training, held) = (texts(&training), texts(&held));
        assert_eq!(training.concat() + &held.concat(), texts(&corpus).concat(), "at {hundredth} %");
        assert_eq!(held.is_empty(), hundredth == 0);
        let cut = usize::from(training.len() + held.len() > 3);
        assert_eq!(training.len() + held.len(), 3 + cut, "no document is joined with another");
    }
    let (_folder, corpus) = written(&["ö"]);
    assert_eq!(texts(&corpus.split(1e-300).unwrap().1), ["ö"], "a part above 0 holds something out");
}

#[test]
fn a_text_longer_than_a_block_comes_in_parts_that_end_where_they_may() {
    let long = "zwölf Birnen, ".repeat(BLOCK / 4);
    let (_folder, corpus) = written(&[&long, "the birds"]);
    let parts: Vec<Part> = corpus.parts(|text| text.rfind(' ')).map(Result::unwrap).collect();
    assert!(parts.len() > 3 && parts.iter().all(|part| part.text.len() <= 2 * BLOCK));
    let ends: Vec<usize> = (0..parts.len()).filter(|&i| parts[i].ends).collect();
    assert_eq!(ends, [parts.len() - 2, parts.len() - 1], "each document ends once");
    assert!(parts[1..parts.len() - 1].iter().all(|part| part.text.starts_with(' ')));
    assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), long + "the birds");
}

#[test]
fn a_byte_that_is_not_utf8_is_named_by_its_place_in_a_long_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = "ö ".repeat(BLOCK).into_bytes();
    for (at, cut_short) in [(BLOCK + 5, false), (3 * BLOCK - 2, true)] {
        bytes[at - at % 3] = 0xc3;
        bytes[at - at % 3 + 1] = 0x20;
        if cut_short {
            bytes.truncate(at - at % 3 + 1);
        }
        let path = folder.path().join("text");
        std::fs::write(&path, &bytes).unwrap();
        let corpus = Corpus::open(&path).unwrap();
        let error = corpus.parts(|text| text.rfind(' ')).find_map(Result::err).unwrap();
        assert!(error.to_string().contains(&format!("at byte {}", at - at % 3)), "{error}");
        bytes = "ö ".repeat(BLOCK).into_bytes();
    }
}

#[test]
fn the_rows_of_a_dataset_are_documents_whatever_file_they_stand_in() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "{\"text\": \"one\\n\\nparagraph\"}\n{\"text\": \" \"}\n{\"text\": \"zwölf\"}\n";
    let whole = ["one\n\nparagraph", "zwölf"];
    for (name, bytes) in [
        ("rows.jsonl", rows.as_bytes().to_vec()),
        ("rows", rows.as_bytes().to_vec()),
        ("rows.csv", "text\n\"one\n\nparagraph\"\nzwölf\n".into()),
        ("rows.json", "{\"text\": [\"one\\n\\nparagraph\", \"zwölf\"]}".into()),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let corpus = Corpus::open(&path).unwrap();
        assert_eq!(texts(&corpus), whole, "{name}");
        assert_eq!(corpus.bytes() as usize, whole.concat().len());
        let (training, held) = corpus.split(0.5).unwrap();
        assert_eq!(texts(&training).concat() + &texts(&held).concat(), whole.concat());
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn rows_that_are_no_text_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, "{\"prompt\": \"a\", \"completion\": \"b\"}\n").unwrap();
    let message = Corpus::open(&path).unwrap_err().to_string();
    assert!(
        message.contains("rows.jsonl:1: this is a dataset of prompt-completion, and corpora are text"),
        "{message}"
    );
}
