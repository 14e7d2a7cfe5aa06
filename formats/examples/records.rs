//! Prints a dataset as JSON lines: `records PATH [--shape SHAPE] [--inspect yes]`.
//!
//! Purpose: comparisons with the libraries that write datasets (`formats/tests/records.py`).
//! Invariant: the first line says the shape and the container; then each example is a line, and each error a line with `error`.
//! Must not know: how datasets are read.

use std::io::{BufWriter, Write};
use std::path::Path;

use kiln_formats::records::{Options, inspect, open};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("records PATH [--shape SHAPE] [--inspect yes]")?;
    let value = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1))
    };
    let shape = value("--shape").map(|shape| shape.parse()).transpose()?;
    let options = Options { shape, ..Options::default() };
    let mut out = BufWriter::new(std::io::stdout().lock());
    if value("--inspect").is_some() {
        let found = inspect(Path::new(path), &options, 3)?;
        writeln!(
            out,
            "{}",
            json!({"shape": found.shape.name(), "rows": found.rows, "files": found.files.len()})
        )?;
        return Ok(());
    }
    match open(Path::new(path), &options) {
        Ok(reader) => {
            writeln!(
                out,
                "{}",
                json!({"shape": reader.shape().name(), "container": reader.container().to_string()})
            )?;
            for row in reader {
                match row {
                    Ok((_, example)) => serde_json::to_writer(&mut out, &example)?,
                    Err(error) => write!(out, "{}", json!({"error": error.to_string()}))?,
                }
                out.write_all(b"\n")?;
            }
        }
        Err(error) => writeln!(out, "{}", json!({"error": error.to_string()}))?,
    }
    out.flush()?;
    Ok(())
}
