//! The endings of files that stages read.
//!
//! Purpose: for each input that is one file of the project or behind a URL, the ending of its name, such as `.jsonl.gz`.
//! Invariant: a provider may tell formats apart by this ending, so it is part of the key and is all that a provider learns of
//! a name; what a stage made has no ending.
//! Must not know: formats, whether there is such a file.

use std::collections::BTreeMap;

use url::Url;

use crate::spec::types::{Download, Pipeline, Reference, Stage, Work};

/// Endings of compressed files, before which there is another one.
const COMPRESSED: [&str; 7] = ["gz", "zst", "zstd", "bz2", "xz", "lz4", "br"];
/// Longer parts of a name are no endings.
const LONGEST: usize = 12;

/// Fills in the endings of all inputs of kinds.
pub fn fill(pipeline: &mut Pipeline) {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let sources = pipeline.sources.iter().map(|(name, source)| (name.clone(), ending(&source.path)));
    known.extend(sources.filter_map(|(name, ending)| Some((name, ending?))));
    let downloads = pipeline.stages.iter().map(|stage| (stage.name.value.clone(), of_download(stage)));
    known.extend(downloads.filter_map(|(name, ending)| Some((name, ending?))));
    for stage in pipeline.stages.iter_mut().filter(|stage| matches!(stage.work, Work::Kind { .. })) {
        for (port, reference) in &stage.inputs {
            let (Reference::Source(name) | Reference::Stage { stage: name, .. }) = &reference.value;
            if let Some(ending) = known.get(name) {
                stage.endings.insert(port.clone(), ending.clone());
            }
        }
    }
}

/// The ending of the file that a stage brings here; none of any other stage.
pub fn of_download(stage: &Stage) -> Option<String> {
    match &stage.work {
        Work::Download(Download::File(link)) => ending(Url::parse(&link.url).ok()?.path()),
        _ => None,
    }
}

/// The ending of a path with its dot, in lower case: the last one, with the one before it where that is of a compression.
fn ending(path: &str) -> Option<String> {
    let name = path.trim_end_matches('/').rsplit('/').next()?.trim_start_matches('.');
    let mut parts = name.rsplit('.');
    let (last, before) = (parts.next()?, parts.next()?);
    let is_ending = |part: &str| {
        !part.is_empty() && part.len() <= LONGEST && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_twofold = COMPRESSED.contains(&last.to_ascii_lowercase().as_str()) && parts.next().is_some();
    match is_ending(last) {
        true if is_twofold && is_ending(before) => Some(format!(".{before}.{last}").to_ascii_lowercase()),
        true => Some(format!(".{last}").to_ascii_lowercase()),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::ending;

    #[test]
    fn the_ending_is_the_last_one_with_that_before_a_compression() {
        for (path, wanted) in [
            ("data/a.csv", Some(".csv")),
            ("a.v2.CSV", Some(".csv")),
            ("/x.y/a.jsonl.gz", Some(".jsonl.gz")),
            ("a.gz", Some(".gz")),
            ("data.d/a", None),
            (".hidden", None),
            (".hidden.txt", Some(".txt")),
            ("a.", None),
            ("a.b c", None),
            ("", None),
            ("a.averylongpartofaname", None),
        ] {
            assert_eq!(ending(path).as_deref(), wanted, "{path}");
        }
    }
}
