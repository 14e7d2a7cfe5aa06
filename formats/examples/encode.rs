//! Encodes a file with the tokenizer of a model, for checks against other implementations.
//!
//! Usage: `encode FOLDER FILE OUT [OPTIONS]`. OUT gets the ids as little-endian u32. `--specials` reads special tokens in
//! the text, `--document` adds BOS and EOS. With `--frames`, FILE has many texts, each after its length in bytes as u32, and
//! OUT gets the number of ids before the ids of each. With `--decode`, OUT gets texts in place of ids: what the ids decode
//! to, in frames if FILE has frames. With `--ids`, FILE has frames of ids, which are decoded (`--specials`: with the special
//! tokens). How long it took goes to stderr.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use kiln_formats::foreign::ForeignTokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let (options, paths): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let [folder, file, out] = paths.as_slice() else { return Err("encode FOLDER FILE OUT [OPTIONS]".into()) };
    let has = |name: &str| options.iter().any(|option| option == name);
    let started = Instant::now();
    let tokenizer = ForeignTokenizer::load(Path::new(folder))?;
    let loading = started.elapsed();
    let bytes = std::fs::read(file)?;
    let frames = if has("--frames") || has("--ids") { frames(&bytes)? } else { vec![bytes.as_slice()] };
    let started = Instant::now();
    let results: Vec<Vec<u8>> =
        frames.iter().map(|frame| run(&tokenizer, frame, &has)).collect::<Result<_, _>>()?;
    let working = started.elapsed();
    let size = if has("--decode") || has("--ids") { 1 } else { 4 };
    let mut written = Vec::new();
    for result in &results {
        if frames.len() != 1 || has("--frames") || has("--ids") {
            written.extend(u32::try_from(result.len() / size)?.to_le_bytes());
        }
        written.extend(result);
    }
    std::fs::write(out, written)?;
    let (megabytes, seconds) = (bytes.len() as f64 / 1e6, working.as_secs_f64());
    let loading = loading.as_secs_f64();
    eprintln!("loaded in {loading:.2} s; {megabytes:.2} MB at {:.2} MB/s", megabytes / seconds);
    Ok(())
}

fn run(
    tokenizer: &ForeignTokenizer,
    frame: &[u8],
    has: &dyn Fn(&str) -> bool,
) -> Result<Vec<u8>, Box<dyn Error>> {
    if has("--ids") {
        let (ids, _) = frame.as_chunks();
        let ids: Vec<u32> = ids.iter().map(|id| u32::from_le_bytes(*id)).collect();
        let decode =
            if has("--specials") { ForeignTokenizer::decode_marked } else { ForeignTokenizer::decode };
        return Ok(decode(tokenizer, &ids).into_bytes());
    }
    let text = std::str::from_utf8(frame)?;
    let ids = match () {
        _ if has("--specials") => tokenizer.encode_with_specials(text),
        _ if has("--document") => tokenizer.encode_document(text),
        _ => tokenizer.encode(text),
    };
    if has("--decode") {
        return Ok(tokenizer.decode_marked(&ids).into_bytes());
    }
    Ok(ids.iter().flat_map(|id| id.to_le_bytes()).collect())
}

fn frames(mut bytes: &[u8]) -> Result<Vec<&[u8]>, Box<dyn Error>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (frame, rest) = rest.split_at_checked(length).ok_or("a frame is shorter than its length says")?;
        frames.push(frame);
        bytes = rest;
    }
    Ok(frames)
}
