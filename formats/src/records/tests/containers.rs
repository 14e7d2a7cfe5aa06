//! Files of each container, and how they are found.

use serde_json::json;

use super::super::{At, Compression, Container, Options, Shape, inspect};
use super::{examples, file, fixture, folder, message, read, reader, rows, wrong};

#[test]
fn an_inspection_reads_all_rows_and_names_the_first_that_is_broken() {
    let row = r#"{"prompt": "a", "completion": "b"}"#;
    let (_folder, path) = file("a.jsonl", format!("{row}\n{row}\n{{\"prompt\": \"a\"}}\n{row}\n"));
    let options = Options { wanted: &[Shape::PromptCompletion], ..Options::default() };
    let found = inspect(&path, &options, 1).unwrap();
    assert_eq!((found.rows, found.first.len(), found.checked), (4, 1, 2));
    let said = found.broken.unwrap().to_string();
    assert!(said.contains("a.jsonl:3") && said.contains("completion"), "{said}");
}

#[test]
fn a_file_of_another_shape_is_named_and_not_those_before_it() {
    let pair = r#"{"prompt": "a", "completion": "b"}"#;
    let judged = r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#;
    let files =
        [("a.jsonl", format!("{pair}\n{pair}\n")), ("b.jsonl", format!("{judged}\n{judged}\n{judged}\n"))];
    let folder = folder(&files.each_ref().map(|(name, text)| (*name, text.as_bytes())));
    let options = Options { wanted: &[Shape::PromptCompletion, Shape::Text], ..Options::default() };
    let found = inspect(folder.path(), &options, 1).unwrap();
    assert_eq!(found.shape, Shape::PromptCompletion);
    let said = found.broken.unwrap().to_string();
    assert!(said.contains("b.jsonl:1") && said.contains("completion"), "{said}");
}

#[test]
fn every_container_that_other_tools_write_gives_the_same_rows() {
    let expected = [
        json!({"text": "the sün"}),
        json!({"text": "a, \"b\"\nc"}),
        json!({"text": "the end the end the end the end "}),
    ];
    let names = [
        "text.jsonl",
        "text.jsonl.gz",
        "text.jsonl.zst",
        "text-columns.json",
        "text-records.json",
        "text.csv",
        "text.tsv",
        "text-none.parquet",
        "text-snappy.parquet",
        "text-gzip.parquet",
        "text-brotli.parquet",
        "text-lz4.parquet",
        "text-zstd.parquet",
    ];
    for name in names {
        assert_eq!(rows(&fixture(name)), expected, "{name}");
        let inspection = inspect(&fixture(name), &Options::default(), 1).unwrap();
        assert_eq!(
            (inspection.rows, inspection.first.len(), inspection.shape),
            (3, 1, Shape::Text),
            "{name}"
        );
    }
}

#[test]
fn nested_lists_and_delta_encodings_of_parquet_are_read() {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let sums = [turn("user", "2+2?"), turn("assistant", "4")];
    assert_eq!(
        rows(&fixture("messages.parquet")),
        [
            json!({"messages": [turn("user", "hi"), turn("assistant", "hello")]}),
            json!({"messages": ([sums.clone(), sums].concat())}),
        ]
    );
    let pairs: Vec<_> = (0..3)
        .map(|i| {
            json!({"prompt": [turn("user", "p")], "chosen": [turn("assistant", &format!("good {i}"))],
                "rejected": [turn("assistant", &format!("good and bad {i}"))],
                "score_chosen": f64::from(i) + 0.5, "score_rejected": f64::from(i)})
        })
        .collect();
    assert_eq!(rows(&fixture("preference-delta.parquet")), pairs);
    assert_eq!(rows(&fixture("preference-lengths.parquet")), pairs);
}

#[test]
fn the_place_of_a_row_is_a_line_an_index_or_a_number() {
    let places = |name: &str| -> Vec<At> { reader(&fixture(name)).map(|row| row.unwrap().0.at).collect() };
    assert_eq!(places("text.jsonl"), [At::Line(1), At::Line(2), At::Line(3)]);
    assert_eq!(places("text.csv"), [At::Line(2), At::Line(3), At::Line(5)], "a field of row 2 has two lines");
    assert_eq!(places("text-records.json"), [At::Index(0), At::Index(1), At::Index(2)]);
    assert_eq!(places("text-columns.json"), [At::Index(0), At::Index(1), At::Index(2)]);
    assert_eq!(places("text-zstd.parquet"), [At::Row(1), At::Row(2), At::Row(3)]);
}

#[test]
fn an_object_of_json_is_a_row_columns_or_the_data() {
    let rows = [json!({"text": "a"}), json!({"text": "b"})];
    let forms = [
        r#"{"text": ["a", "b"]}"#,
        r#"{"other": [1, 2], "text": ["a", "b"]}"#,
        r#"{"text": {"x": "a", "7": "b"}, "n": {"x": 1, "7": 2}}"#,
        r#"{"version": {"data": 1}, "data": [{"text": "a"}, {"text": "b"}], "n": [[]]}"#,
        "[{\"text\": \"a\"},\n{\"text\": \"b\"}]",
        "{\"text\": \"a\"}\n{\"text\": \"b\"}\n",
        "{\n \"text\": \"a\"\n}\n{\n \"text\": \"b\"\n}\n",
    ];
    for form in forms {
        assert_eq!(read("rows.json", form), rows, "{form}");
        assert_eq!(read("rows.json", format!("\u{feff} \n{form} \n")), rows, "{form} with white space");
    }
    assert_eq!(read("rows.json", r#"{"text": "a"}"#), rows[..1], "one row alone");
    let chat = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    assert_eq!(read("rows.json", chat).len(), 1, "one row whose column is a list");
    let chats =
        r#"{"messages": [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]]}"#;
    assert_eq!(read("rows.json", chats).len(), 1, "a column of lists");
}

#[test]
fn json_that_is_larger_than_a_row_is_read_row_by_row() {
    let text = "word ".repeat(1000);
    let texts: Vec<&str> = vec![&text; 100];
    let options = Options { largest_row: 8000, ..Options::default() };
    for json in [
        json!({"text": texts}).to_string(),
        json!({"data": texts.iter().map(|text| json!({"text": text})).collect::<Vec<_>>()}).to_string(),
        json!(texts.iter().map(|text| json!({"text": text})).collect::<Vec<_>>()).to_string(),
    ] {
        let (_folder, path) = file("rows.json", json);
        let rows = super::super::open(&path, &options).unwrap();
        assert_eq!(rows.filter(Result::is_ok).count(), 100);
    }
}

#[test]
fn csv_has_quotes_line_ends_and_separators_inside_its_fields() {
    let csv = "\u{feff}id,text,\"prompt\"\r\n\r\n1,\"a \"\"b\"\",\nc\",x\n2,d;e,\n3,\"\",\"f\"";
    let texts: Vec<_> = read("rows.csv", csv).into_iter().map(|row| row["text"].clone()).collect();
    assert_eq!(texts, [json!("a \"b\",\nc"), json!("d;e")], "and a blank text is no row");
    assert_eq!(read("rows.tsv", "text\tn\na,b\t1\n"), [json!({"text": "a,b"})]);
    let chat = "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"a\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"b\"\"}]\"\n";
    assert_eq!(read("rows.csv", chat).len(), 1, "a list is written as JSON");
}

#[test]
fn blank_lines_are_no_rows_and_are_counted() {
    let (_folder, path) = file("rows.jsonl", "\u{feff}\n{\"text\": \"a\"}\r\n  \n\n{\"text\": \"b\"}");
    let lines: Vec<At> = reader(&path).map(|row| row.unwrap().0.at).collect();
    assert_eq!(lines, [At::Line(2), At::Line(5)]);
    assert_eq!(inspect(&path, &Options::default(), 0).unwrap().rows, 2);
}

#[test]
fn a_file_without_a_known_ending_is_known_by_its_first_bytes() {
    let container = |content: &[u8]| {
        let (_folder, path) = file("rows", content);
        reader(&path).container()
    };
    assert_eq!(container(b"\n{\"text\": \"a\"}\n{\"text\": \"b\"}"), Container::JsonLines);
    assert_eq!(container(b" [ {\"text\": \"a\"} ]"), Container::Json);
    assert_eq!(container(b"[Chapter 1] It was a dark night."), Container::Text);
    assert_eq!(container(b"{this is prose}"), Container::Text);
    assert_eq!(container(&std::fs::read(fixture("text-zstd.parquet")).unwrap()), Container::Parquet);
    assert_eq!(container(&std::fs::read(fixture("text.jsonl.gz")).unwrap()), Container::JsonLines);
}

#[test]
fn compression_is_known_by_the_first_bytes_whatever_the_name() {
    let packed = std::fs::read(fixture("text.jsonl.zst")).unwrap();
    let (_folder, path) = file("rows.jsonl", packed);
    assert_eq!(reader(&path).files()[0].compression, Compression::Zstd);
    assert_eq!(rows(&path).len(), 3);
    let mut parquet = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut parquet, &std::fs::read(fixture("text-none.parquet")).unwrap()).unwrap();
    assert_eq!(read("rows.parquet.gz", parquet.finish().unwrap()).len(), 3);
}

#[test]
fn the_files_of_a_folder_come_in_the_order_of_their_bytes_and_may_differ_in_container() {
    let folder = folder(&[
        ("b/z.jsonl", br#"{"text": "3"}"#),
        ("b/a.csv", b"text\n2\n"),
        ("c.json", br#"[{"text": "4"}]"#),
        ("A.jsonl", br#"{"text": "1"}"#),
        (".hidden.jsonl", br#"{"text": "no"}"#),
        (".git/x.jsonl", br#"{"text": "no"}"#),
        ("README.md", b"# A dataset"),
        ("dataset_infos.json", b"{}"),
        ("d.txt", b"5"),
    ]);
    let reader = reader(folder.path());
    let skipped: Vec<_> = reader.skipped().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(skipped, ["dataset_infos.json", "README.md"]);
    let texts: Vec<_> = rows(folder.path()).into_iter().map(|row| row["text"].clone()).collect();
    assert_eq!(texts, ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_pattern_names_files_and_a_file_of_that_very_name_comes_first() {
    let folder = folder(&[
        ("b-1.jsonl", br#"{"text": "2"}"#),
        ("a-1.jsonl", br#"{"text": "1"}"#),
        ("a-2.txt", b"no"),
        ("[x].jsonl", br#"{"text": "x"}"#),
    ]);
    let of = |name: &str| rows(&folder.path().join(name)).len();
    assert_eq!((of("?-*.jsonl"), of("b-[0-9].jsonl"), of("[x].jsonl")), (2, 1, 1));
    let none = message(&folder.path().join("c-*.jsonl"), &Options::default());
    assert_eq!(none, "c-*.jsonl: there is no file of this name, and none matches it as a pattern");
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_counts_as_the_file_and_one_to_a_folder_is_left_alone() {
    let folder = folder(&[("store/blob", br#"{"text": "a"}"#), ("data/b.jsonl", br#"{"text": "b"}"#)]);
    let data = folder.path().join("data");
    std::os::unix::fs::symlink(folder.path().join("store/blob"), data.join("a.jsonl")).unwrap();
    std::os::unix::fs::symlink(&data, data.join("circle")).unwrap();
    assert_eq!(rows(&data), [json!({"text": "a"}), json!({"text": "b"})]);
}

#[test]
fn the_caller_may_name_the_container_and_the_shape() {
    let (_folder, path) = file("rows.md", r#"{"prompt": "a", "response": "b"}"#);
    let options =
        Options { container: Some(Container::JsonLines), shape: Some(Shape::Prompts), ..Options::default() };
    let rows: Vec<_> = super::super::open(&path, &options).unwrap().map(|row| row.unwrap().1).collect();
    let row = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!(row, json!({"prompt": "a", "response": "b"}));
}

#[test]
fn a_dataset_without_rows_is_an_error_unless_it_may_be_empty() {
    assert_eq!(wrong("rows.jsonl", "\n\n"), "rows.jsonl is empty or blank: it needs at least one row");
    assert_eq!(wrong("rows.csv", "text\n"), "rows.csv is empty or blank: it needs at least one row");
    assert_eq!(wrong("rows.json", "[]"), "rows.json is empty or blank: it needs at least one row");
    assert_eq!(wrong("text.txt", " \n"), "text.txt is empty or blank: it needs some text");
    assert_eq!(
        wrong("rows.jsonl", "{\"text\": \" \"}"),
        "rows.jsonl is empty or blank: it needs at least one row"
    );
    let (_folder, path) = file("rows.jsonl", "");
    let options = Options { shape: Some(Shape::Prompts), may_be_empty: true, ..Options::default() };
    assert_eq!(super::super::open(&path, &options).unwrap().count(), 0);
    assert!(examples(&fixture("text.jsonl")).len() == 3);
}

#[test]
fn indented_json_without_an_ending_is_told_from_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    for (text, wanted) in [
        ("[\n  {\n    \"text\": \"a\"\n  }\n]\n", Container::Json),
        ("{\n  \"text\": [\"a\"]\n}\n", Container::Json),
        ("[\nAct one]\nA hall.\n", Container::Text),
        ("{\nreturn 1;\n}\n", Container::Text),
        ("[", Container::Text),
    ] {
        std::fs::write(&path, text).unwrap();
        let reader = super::super::open(&path, &Options::default()).unwrap();
        assert_eq!(reader.container(), wanted, "{text}");
        assert_eq!(reader.shape(), Shape::Text, "{text}");
    }
}
