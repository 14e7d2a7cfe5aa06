//! What the files of a model say of it.
//!
//! Purpose: `config.json`, and the number of parameters by the headers of safetensors files.
//! Invariant: the store verified what is read, and only headers are read of large files. A header is believed only if its
//! tensors fill the file to its last byte; a hostile one costs an error, not memory.
//! Must not know: what the settings of a model mean.
//!
//! Source: the safetensors format.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::facts::{Gap, Library, Model};
use crate::cas::types::ArtifactRef;
use crate::cas::{Store, StoreError};
use crate::digest::Digest;

/// The file with the settings of a model.
const CONFIG: &str = "config.json";
/// The file with the settings of an adapter, and the folder of the model that it changes.
const ADAPTER: (&str, &str) = ("adapter_config.json", "base/");
/// The most bytes of it that are read.
const MOST_CONFIG: u64 = 1 << 20;
/// The most bytes of a safetensors header that are read.
const MOST_HEADER: u64 = 16 << 20;

/// A tensor, as the header of a safetensors file has it.
#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// What the files of an artifact, which is whole, say of a model; none when it is no model.
///
/// # Errors
/// The store fails.
pub fn read(
    store: &Store,
    name: &str,
    artifact: &ArtifactRef,
    gaps: &mut Vec<Gap>,
) -> Result<Option<Model>, StoreError> {
    let (mut model, mut is_model) = (Model::default(), false);
    let files = files(store, artifact)?;
    let is_adapter = files.iter().any(|(path, _)| path == ADAPTER.0);
    for (path, digest) in files {
        if is_adapter && path.starts_with(ADAPTER.1) {
            continue;
        }
        if path == CONFIG {
            model.config = config(store, &digest);
            is_model |= model.config.is_some();
            if model.config.is_none() {
                gaps.push(Gap::new(
                    name,
                    format!("the settings are not known: {CONFIG} is no JSON object of at most 1 MiB"),
                ));
            }
        } else if !artifact.tree || path.ends_with(".safetensors") {
            match tensors(&store.blob(&digest)).ok().flatten().and_then(|found| add(&mut model, &found)) {
                Some(()) => is_model = true,
                // A single file has no name that says what it is.
                None if !artifact.tree => {}
                None => {
                    (model.parameters, model.tensors, model.by_type) = (None, None, BTreeMap::new());
                    gaps.push(Gap::new(
                        name,
                        format!("the parameters are not known: the header of {path} cannot be used"),
                    ));
                    break;
                }
            }
        }
    }
    model.library = library(model.config.as_ref(), is_adapter);
    Ok(is_model.then_some(model))
}

/// The library that loads a model; a `config.json` with a `model_type` is one of `transformers`.
fn library(config: Option<&Map<String, Value>>, is_adapter: bool) -> Option<Library> {
    match config?.get("model_type") {
        Some(_) if is_adapter => Some(Library::Peft),
        Some(_) => Some(Library::Transformers),
        None => None,
    }
}

fn files(store: &Store, artifact: &ArtifactRef) -> Result<Vec<(String, Digest)>, StoreError> {
    match artifact.tree {
        true => Ok(store.tree(&artifact.digest)?.files.into_iter().map(|f| (f.path, f.digest)).collect()),
        false => Ok(vec![(String::new(), artifact.digest)]),
    }
}

fn config(store: &Store, digest: &Digest) -> Option<Map<String, Value>> {
    serde_json::from_slice(&store.read(digest, MOST_CONFIG).ok()?).ok()
}

/// Adds the tensors of a file; none when a sum is too large.
fn add(model: &mut Model, tensors: &[Tensor]) -> Option<()> {
    for tensor in tensors {
        let count = tensor.shape.iter().try_fold(1_u64, |product, n| product.checked_mul(*n))?;
        let of_type = model.by_type.entry(tensor.dtype.clone()).or_default();
        *of_type = of_type.checked_add(count)?;
        model.parameters = Some(model.parameters.unwrap_or_default().checked_add(count)?);
    }
    model.parameters.get_or_insert(0);
    model.tensors = Some(model.tensors.unwrap_or_default() + tensors.len() as u64);
    Some(())
}

/// The tensors of a safetensors file; none when it is something else.
fn tensors(path: &Path) -> io::Result<Option<Vec<Tensor>>> {
    let mut file = File::open(path)?;
    let (size, mut length) = (file.metadata()?.len(), [0; 8]);
    if size < 8 {
        return Ok(None);
    }
    file.read_exact(&mut length)?;
    let (header, most) = (u64::from_le_bytes(length), MOST_HEADER.min(size - 8));
    if header > most {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(header).read_to_end(&mut text)?;
    Ok(parse(&text, size - 8 - header))
}

/// The tensors of a header, if they fill this many bytes without a gap.
fn parse(header: &[u8], bytes: u64) -> Option<Vec<Tensor>> {
    let mut entries: BTreeMap<String, Value> = serde_json::from_slice(header).ok()?;
    entries.remove("__metadata__");
    let tensors = entries.into_values().map(|value| serde_json::from_value::<Tensor>(value).ok());
    let mut tensors = tensors.collect::<Option<Vec<_>>>()?;
    tensors.sort_by_key(|tensor| tensor.data_offsets);
    let mut end = 0;
    for Tensor { dtype, shape, data_offsets: (from, to) } in &tensors {
        let count = shape.iter().try_fold(1_u64, |product, n| product.checked_mul(*n))?;
        let wanted = count.checked_mul(bits(dtype)?)?.div_ceil(8);
        if *from != end || to.checked_sub(*from)? != wanted {
            return None;
        }
        end = *to;
    }
    (end == bytes).then_some(tensors)
}

/// The bits of one number of a type.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "BOOL" | "U8" | "I8" => 8,
        "F4" => 4,
        other if other.starts_with("F8_") => 8,
        other if other.starts_with("F6_") => 6,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_named_where_the_files_are_its_own() {
        let config = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let (own, other) = (config(r#"{"model_type": "llama"}"#), config(r#"{"layers": 2}"#));
        assert_eq!(library(Some(&own), false), Some(Library::Transformers));
        assert_eq!(library(Some(&own), true), Some(Library::Peft));
        assert_eq!(library(Some(&other), true), None);
        assert_eq!(library(None, false), None);
    }

    fn parameters(header: &str, bytes: u64) -> Option<u64> {
        let mut model = Model::default();
        add(&mut model, &parse(header.as_bytes(), bytes)?)?;
        model.parameters
    }

    #[test]
    fn parameters_are_counted_by_the_shapes_of_a_header_that_fits_its_file() {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}"#;
        assert_eq!(parameters(header, 26), Some(7));
        assert_eq!(parameters(header, 27), None, "bytes that no tensor has");
        assert_eq!(parameters(&header.replace("[2,3]", "[2,4]"), 26), None, "a shape that does not fit");
        let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
        assert_eq!(parameters(huge, 0), None);
        assert_eq!(parameters("{", 0), None);
    }
}
