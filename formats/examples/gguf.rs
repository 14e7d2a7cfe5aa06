//! GGUF files and Hugging Face folders, both ways.
//!
//! Purpose: lets other programs, say `tests/gguf_oracle.py`, see what the library makes of a file.
//! Invariant: tensors pass one at a time.
//! Must not know: what the models are for.
//!
//! Usage:
//!   gguf import FILE FOLDER                 a folder with the model in f32
//!   gguf export FOLDER FILE f32|f16|q8_0    a file of the model in a folder, whose tensors are F32, F16 or BF16
//!   gguf values FILE OUT                    all tensors of a file in f32, one after the other, in the order of its table

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use kiln_formats::gguf::{Documents, GgufFile, Imported, Precision, export};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["import", file, folder] => import(Path::new(file), Path::new(folder)),
        ["export", folder, file, precision] => write(Path::new(folder), Path::new(file), precision),
        ["values", file, out] => values(Path::new(file), Path::new(out)),
        _ => Err("usage: gguf import FILE FOLDER | export FOLDER FILE f32|f16|q8_0 | values FILE OUT".into()),
    }
}

fn put(out: &mut impl Write, values: &[f32]) -> std::io::Result<()> {
    values.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
}

fn values(file: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let file = GgufFile::open(file)?;
    let mut out = BufWriter::new(File::create(out)?);
    let mut values = Vec::new();
    for info in file.tensors() {
        file.read_tensor(&info.name, &mut values)?;
        put(&mut out, &values)?;
    }
    Ok(out.flush()?)
}

fn import(file: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let model = Imported::open(file)?;
    std::fs::create_dir_all(folder)?;
    for (name, document) in [
        ("config.json", &model.config),
        ("tokenizer.json", &model.tokenizer),
        ("tokenizer_config.json", &model.tokenizer_config),
        ("generation_config.json", &model.generation_config),
    ] {
        std::fs::write(folder.join(name), serde_json::to_vec_pretty(document)?)?;
    }
    let (mut header, mut at) = (Map::new(), 0);
    for tensor in &model.tensors {
        let end = at + 4 * tensor.shape.iter().product::<usize>();
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [at, end] });
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let header = serde_json::to_vec(&header)?;
    let mut out = BufWriter::new(File::create(folder.join("model.safetensors"))?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut values = Vec::new();
    for tensor in &model.tensors {
        model.read(&tensor.name, &mut values)?;
        put(&mut out, &values)?;
    }
    Ok(out.flush()?)
}

fn write(folder: &Path, file: &Path, precision: &str) -> Result<(), Box<dyn Error>> {
    let document = |name: &str| -> Result<Value, Box<dyn Error>> {
        match std::fs::read(folder.join(name)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(_) => Ok(Value::Null),
        }
    };
    let config = document("config.json")?;
    let (tokenizer, generation_config) = (document("tokenizer.json")?, document("generation_config.json")?);
    let mut tokenizer_config = document("tokenizer_config.json")?;
    if let Ok(template) = std::fs::read_to_string(folder.join("chat_template.jinja")) {
        tokenizer_config["chat_template"] = template.into();
    }
    let documents = Documents {
        config: &config,
        tokenizer: &tokenizer,
        tokenizer_config: &tokenizer_config,
        generation_config: &generation_config,
    };
    let precision = match precision {
        "f32" => Precision::F32,
        "f16" => Precision::F16,
        "q8_0" => Precision::Q8_0,
        _ => return Err("the precision is f32, f16 or q8_0".into()),
    };
    let bytes = std::fs::read(folder.join("model.safetensors"))?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let read = |name: &str, _: &[usize], out: &mut Vec<f32>| -> Result<(), Box<dyn Error>> {
        let tensor = tensors.tensor(name)?;
        let data = tensor.data();
        match tensor.dtype() {
            Dtype::F32 => out.extend(data.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x))),
            Dtype::F16 => {
                out.extend(data.as_chunks().0.iter().map(|&x| half::f16::from_le_bytes(x).to_f32()))
            }
            Dtype::BF16 => {
                out.extend(data.as_chunks().0.iter().map(|&x| half::bf16::from_le_bytes(x).to_f32()))
            }
            other => return Err(format!("{other:?} is not read").into()),
        }
        Ok(())
    };
    Ok(export(file, &documents, "model", precision, read)?)
}
