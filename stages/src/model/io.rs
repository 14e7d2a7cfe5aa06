//! Models on disk: named tensors in safetensors files, and the folder around them.
//!
//! Purpose: `config.json`, `model.safetensors` and the tokenizer's files make a model folder.
//! Invariant: a file is read only if its names, shapes and sizes are those that the shape in
//! `config.json` asks for; a hostile file costs an error, not memory. No value that is not finite is read or written.
//! Must not know: what the model is for; optimizers (they use the named tensors too).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::config::{ModelConfig, ShapeError};
use super::decoder::Decoder;

/// The shape's file.
pub const CONFIG: &str = "config.json";
/// The weights' file.
pub const WEIGHTS: &str = "model.safetensors";
/// `config.json` is never longer.
const CONFIG_LIMIT: u64 = 1 << 20;
/// A safetensors header is never longer.
const HEADER_LIMIT: u64 = 1 << 20;

/// Tensors by their path in a module, f32.
pub type NamedTensors = BTreeMap<String, TensorData>;

/// What may be wrong with a model folder.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ModelError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}; it is no model of this Kiln, or damaged", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "{}: the tensor `{tensor}` would hold a value that is not finite, so nothing is written; the training has \
         diverged: try a smaller learning rate",
        path.display()
    )]
    NotFinite { path: PathBuf, tensor: String },
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

fn malformed(path: &Path, reason: impl ToString) -> ModelError {
    ModelError::Malformed { path: path.to_owned(), reason: reason.to_string() }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ModelError {
    move |source| ModelError::Io { path: path.to_owned(), source }
}

/// Collects the parameters of any module, by path.
pub fn named_tensors<M: Module>(module: &M) -> NamedTensors {
    #[derive(Default)]
    struct Collector {
        path: Vec<String>,
        found: NamedTensors,
    }
    impl ModuleVisitor for Collector {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.insert(self.path.join("."), param.val().into_data());
        }
    }
    let mut collector = Collector::default();
    module.visit(&mut collector);
    collector.found
}

/// Replaces the parameters of a module by tensors of the same names and shapes.
///
/// # Errors
/// Names the first tensor that is missing, of another shape, or not asked for.
pub fn with_tensors<M: Module>(module: M, tensors: NamedTensors) -> Result<M, String> {
    struct Filler {
        path: Vec<String>,
        tensors: NamedTensors,
        problem: Option<String>,
    }
    impl ModuleMapper for Filler {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.join(".");
            let (id, old, mapper) = param.consume();
            let wanted = old.dims();
            let value = match self.tensors.remove(&name) {
                Some(data) if data.shape().as_slice() == wanted => {
                    leaf(Tensor::from_data(data, &old.device()))
                }
                found => {
                    let seen = found
                        .map_or("missing".to_owned(), |d| format!("of shape {:?}", d.shape().as_slice()));
                    self.problem.get_or_insert(format!("tensor `{name}` is {seen}, wanted {wanted:?}"));
                    old
                }
            };
            Param::from_mapped_value(id, value, mapper)
        }
    }
    let mut filler = Filler { path: Vec::new(), tensors, problem: None };
    let module = module.map(&mut filler);
    match (filler.problem, filler.tensors.keys().next()) {
        (Some(problem), _) => Err(problem),
        (None, Some(name)) => Err(format!("tensor `{name}` is not part of this model")),
        (None, None) => Ok(module),
    }
}

/// A parameter's tensor: it wants a gradient where there are gradients.
pub fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.is_autodiff() { tensor.require_grad() } else { tensor }
}

/// Writes tensors as a safetensors file: to a temporary name, then renamed.
///
/// # Errors
/// Those of writing; a value that is not finite.
pub fn write_tensors(path: &Path, tensors: &NamedTensors) -> Result<(), ModelError> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        if !data.iter::<f32>().all(f32::is_finite) {
            return Err(ModelError::NotFinite { path: path.to_owned(), tensor: name.clone() });
        }
        let view = TensorView::new(Dtype::F32, data.shape().as_slice().to_vec(), data.as_bytes())
            .map_err(|e| malformed(path, e))?;
        views.push((name.as_str(), view));
    }
    let bytes = safetensors::serialize(views, None).map_err(|e| malformed(path, e))?;
    write_whole(path, &bytes)
}

/// Writes a file so that it is either absent or whole.
///
/// # Errors
/// Those of writing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).map_err(io(&temporary))?;
    std::fs::rename(&temporary, path).map_err(io(path))
}

/// The size of a regular file; a device or a pipe has none and might never end.
fn file_size(path: &Path) -> Result<u64, ModelError> {
    let found = std::fs::metadata(path).map_err(io(path))?;
    if found.is_file() { Ok(found.len()) } else { Err(malformed(path, "it is no regular file")) }
}

/// Reads a safetensors file of f32 tensors, `expected` values in all.
///
/// The number must be exact: a caller then makes room for what the file holds, not for what a
/// hostile shape beside a small file claims.
///
/// # Errors
/// When it cannot be read, holds another number of values, or is malformed.
pub fn read_tensors(path: &Path, expected: u64) -> Result<NamedTensors, ModelError> {
    let size = file_size(path)?;
    if size > expected * 4 + HEADER_LIMIT {
        return Err(malformed(path, format!("{size} bytes are more than {expected} values need")));
    }
    let bytes = std::fs::read(path).map_err(io(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| malformed(path, e))?;
    let mut out = NamedTensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(malformed(path, format!("tensor `{name}` is {:?}, wanted F32", view.dtype())));
        }
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(malformed(path, format!("tensor `{name}` has a value that is not finite")));
        }
        out.insert(name, TensorData::new(values, view.shape().to_vec()));
    }
    let found: u64 = out.values().map(|d| d.num_elements() as u64).sum();
    if found != expected {
        return Err(malformed(path, format!("it holds {found} values, the shape asks for {expected}")));
    }
    Ok(out)
}

/// Writes shape and weights into a folder.
///
/// # Errors
/// Those of writing.
pub fn save(folder: &Path, model: &Decoder) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    write_config(folder, model.config())?;
    write_tensors(&folder.join(WEIGHTS), &named_tensors(model))
}

/// Writes the shape into a folder.
///
/// # Errors
/// Those of writing.
pub fn write_config(folder: &Path, config: &ModelConfig) -> Result<(), ModelError> {
    let path = folder.join(CONFIG);
    let mut text = serde_json::to_string_pretty(config).map_err(|e| malformed(&path, e))?;
    text.push('\n');
    write_whole(&path, text.as_bytes())
}

/// Reads the shape of the model in a folder.
///
/// # Errors
/// When it is missing, malformed or impossible.
pub fn read_config(folder: &Path) -> Result<ModelConfig, ModelError> {
    let path = folder.join(CONFIG);
    if file_size(&path)? > CONFIG_LIMIT {
        return Err(malformed(&path, "too long"));
    }
    let text = std::fs::read_to_string(&path).map_err(io(&path))?;
    let config: ModelConfig = serde_json::from_str(&text).map_err(|e| malformed(&path, e))?;
    config.check()?;
    Ok(config)
}

/// Reads the model in a folder.
///
/// # Errors
/// When shape or weights are missing, malformed or do not fit each other.
pub fn load(folder: &Path, device: &Device) -> Result<Decoder, ModelError> {
    let config = read_config(folder)?;
    let path = folder.join(WEIGHTS);
    let tensors = read_tensors(&path, config.parameters())?;
    with_tensors(Decoder::new(&config, 0, device), tensors).map_err(|e| malformed(&path, e))
}
