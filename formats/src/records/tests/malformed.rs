//! Files that are not what their container is: what is wrong is said with the line, index or row.

use super::super::Options;
use super::{file, fixture, message, wrong};

#[test]
fn json_that_cannot_be_read_is_named_with_its_line_or_index_and_column() {
    let messages = [
        (
            "rows.jsonl",
            "{\"text\": \"a\"}\n\n{\"text\": \"b\"\n",
            "rows.jsonl:3: this JSON has no end at column 12",
        ),
        (
            "rows.jsonl",
            "text\n",
            "rows.jsonl:1: this is not JSON; a row is an object, such as {\"text\": \"..\"}",
        ),
        (
            "rows.jsonl",
            "{\"text\": NaN}",
            "rows.jsonl:1: expected value at column 10 (JSON has no NaN and no Infinity; write null)",
        ),
        (
            "rows.jsonl",
            "{'text': 'a'}",
            "rows.jsonl:1: key must be a string at column 2 (this is how Python prints a value; write JSON, with double quotes)",
        ),
        (
            "rows.jsonl",
            "[{\"text\": \"a\"}]",
            "rows.jsonl:1: this is an array; a row is an object, such as {\"text\": \"..\"}",
        ),
        (
            "rows.jsonl",
            "\"text\"",
            "rows.jsonl:1: this is no object; a row is an object, such as {\"text\": \"..\"}",
        ),
        (
            "rows.jsonl",
            "{\"text\": \"a\", \"text\": \"b\"}",
            "rows.jsonl:1: duplicate field `text` at column 20",
        ),
        (
            "rows.jsonl",
            "{\"text\": \"a\"} {\"text\": \"b\"}",
            "rows.jsonl:1: trailing characters at column 15",
        ),
        ("rows.jsonl", "{\"text\": \"\\ud800\"}", "rows.jsonl:1: unexpected end of hex escape at column 17"),
        (
            "rows.json",
            "[{\"text\": \"a\"},\n{\"text\": 1}]",
            "rows.json[1]: text: expected a string, found a number",
        ),
        (
            "rows.json",
            "[{\"text\": \"a\"},\n {\"text\": \"b\"]",
            "rows.json[1]: a bracket closes what is not open at line 2",
        ),
        (
            "rows.json",
            "[{\"text\": \"a\"} {\"text\": \"b\"}]",
            "rows.json[1]: expected `,` or `]`, found `{` at line 1",
        ),
        (
            "rows.json",
            "[{\"text\": \"a\"}] x",
            "rows.json[1]: there is more after the end of the rows at line 1",
        ),
        ("rows.json", "[{\"text\": \"a\"},", "rows.json[1]: this JSON, which begins at line 1, has no end"),
        (
            "rows.json",
            "{\"text\": [\"a\"], \"prompt\": [\"b\", \"c\"]}",
            "rows.json[1]: text: this column has no value here, and the column `prompt` has one",
        ),
        (
            "rows.json",
            "{\"text\": {\"x\": \"a\"}, \"prompt\": {\"y\": \"b\"}}",
            "rows.json[0]: prompt: this value has the label \"y\" and that of the first column \"x\"",
        ),
        (
            "rows.json",
            "words",
            "rows.json: this is not JSON with rows: it begins neither with `[` nor with `{`; name JSON lines .jsonl and text .txt",
        ),
    ];
    for (name, content, expected) in messages {
        assert_eq!(wrong(name, content), expected);
    }
}

#[test]
fn csv_that_cannot_be_read_is_named_with_the_line_on_which_its_record_begins() {
    let messages = [
        (
            "id,text\n\n1,\"a\nb\"\n2,b,c\n",
            "rows.csv:5: 3 fields, and the first line names 2; put quotes around a field with separators or line ends",
        ),
        ("id,text\n1,a\n2,\"b\n3,c\n", "rows.csv:3: a quote in this record is never closed"),
        (
            "text\n\"a\"b\n",
            "rows.csv:2: field 1 goes on after its closing quote; a quote inside a field is doubled",
        ),
        ("text,text\n1,2\n", "rows.csv:1: text: this column stands twice in the line of names"),
        (
            "messages\n\"[{'role': 'user'}]\"\n",
            "rows.csv:2: messages: key must be a string at column 3 (this is how Python prints a value; write JSON, with double \
             quotes); in a CSV this column is a list, written as JSON",
        ),
    ];
    for (content, expected) in messages {
        assert_eq!(wrong("rows.csv", content), expected);
    }
}

#[test]
fn text_in_another_encoding_is_named_with_what_to_do() {
    const ADVICE: &str = "; convert the file (for Latin-1: iconv -f ISO-8859-1 -t UTF-8)";
    let messages: [(&str, &[u8], String); 9] = [
        (
            "rows.jsonl",
            b"{\"text\": \"caf\xe9\"}",
            format!("rows.jsonl:1: it is not UTF-8 at byte 13 (0xE9){ADVICE}"),
        ),
        (
            "rows.json",
            b"[{\"text\": \"caf\xe9\"}]",
            format!("rows.json[0]: it is not UTF-8 at byte 13 (0xE9){ADVICE}"),
        ),
        (
            "rows.json",
            b"{\"text\": [\"caf\xe9\"]}",
            format!("rows.json[0]: text: it is not UTF-8 at byte 4 (0xE9){ADVICE}"),
        ),
        (
            "rows.csv",
            b"text\ncaf\xe9\n",
            format!("rows.csv:2: text: it is not UTF-8 at byte 3 (0xE9){ADVICE}"),
        ),
        (
            "rows.jsonl",
            b"\xff\xfe{\0\"\0",
            "rows.jsonl is UTF-16 text; convert it (iconv -f UTF-16 -t UTF-8) and run again".into(),
        ),
        (
            "rows.csv",
            b"\xfe\xff\0t\0e",
            "rows.csv is UTF-16 text; convert it (iconv -f UTF-16 -t UTF-8) and run again".into(),
        ),
        (
            "rows.jsonl",
            b"{\0\"\0t\0",
            "rows.jsonl is UTF-16LE text; convert it (iconv -f UTF-16LE -t UTF-8) and run again".into(),
        ),
        (
            "a.txt",
            b"\0t\0e\0x",
            "a.txt is UTF-16BE text; convert it (iconv -f UTF-16BE -t UTF-8) and run again".into(),
        ),
        (
            "a.txt",
            b"t\0\0\0e\0\0\0",
            "a.txt is UTF-32LE text; convert it (iconv -f UTF-32LE -t UTF-8) and run again".into(),
        ),
    ];
    for (name, content, expected) in messages {
        assert_eq!(wrong(name, content), expected);
    }
}

#[test]
fn files_that_are_something_else_are_named_with_what_to_do() {
    let gz = std::fs::read(fixture("text.jsonl.gz")).unwrap();
    let zst = std::fs::read(fixture("text.jsonl.zst")).unwrap();
    let parquet = std::fs::read(fixture("text-none.parquet")).unwrap();
    let messages: [(&str, &[u8], &str); 12] = [
        (
            "rows.csv",
            &[0; 4096],
            "rows.csv: it begins with bytes of zero, as a file that was not written to its end; copy it again",
        ),
        (
            "rows.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            "rows.jsonl: it is a pointer of Git LFS and not the data; get it with `git lfs pull`",
        ),
        ("rows.jsonl.gz", b"{\"text\": \"a\"}", "rows.jsonl.gz: it does not begin as gzip does; rename it"),
        ("rows.jsonl.zst", &gz, "rows.jsonl.zst: it does not begin as zstd does; rename it"),
        (
            "rows.jsonl.gz",
            &gz[..gz.len() - 12],
            "cannot read rows.jsonl.gz: the compressed data end early; copy the file again",
        ),
        (
            "rows.jsonl.zst",
            &zst[..zst.len() - 5],
            "cannot read rows.jsonl.zst: the compressed data end early; copy the file again",
        ),
        (
            "rows.arrow",
            b"ARROW1",
            "rows.arrow: Arrow files are not read; write Parquet (with datasets: load_from_disk(..).to_parquet(..))",
        ),
        ("rows.xlsx", b"PK", "rows.xlsx: spreadsheets are not read; export it as CSV UTF-8"),
        (
            "rows.jsonl.bz2",
            b"BZh",
            "rows.jsonl.bz2: bzip2 is not read; compress it with gzip or zstd, or not at all",
        ),
        (
            "rows.parquet",
            b"{\"text\": \"a\"}",
            "rows.parquet: this is no Parquet: it does not begin as a file of Parquet does",
        ),
        (
            "rows.parquet",
            &parquet[..parquet.len() - 1],
            "rows.parquet: it does not end as a file of Parquet does; it was cut short, copy it again",
        ),
        (
            "rows.parquet",
            b"PAR1\xff\xff\xff\x7fPAR1",
            "rows.parquet: its metadata would have 2147483647 bytes, and the file has 12; it is damaged",
        ),
    ];
    for (name, content, expected) in messages {
        assert_eq!(wrong(name, content), expected);
    }
    assert!(wrong("missing/../gone.jsonl", "").contains("is empty"), "the file is there");
    let (folder, _path) = file("a.txt", "a");
    let error = message(&folder.path().join("gone.jsonl"), &Options::default());
    assert_eq!(error, "cannot read gone.jsonl: No such file or directory (os error 2)");
}
