//! A GGUF file, from metadata and tensors.
//!
//! Purpose: version 3, little-endian: the header, then one tensor after the other as they come.
//! Invariant: exactly the tensors of the table are written, in its order; a file on a disk is whole or absent.
//! Must not know: models.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::parse::alignment;
use super::tensor::encode;
use super::value::ARRAY;
use super::{GgufError, MetaArray, MetaValue, Metadata, TensorKind};

/// Values that are encoded at once; a multiple of every block.
const CHUNK: usize = 1 << 16;

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorPlan {
    /// Its name.
    pub name: String,
    /// The lengths of its dimensions, the slowest first.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub kind: TensorKind,
}

impl TensorPlan {
    fn len(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |total, &length| total.checked_mul(length as u64))
    }

    /// The bytes of its values.
    fn bytes(&self) -> Result<u64, GgufError> {
        let refuse = |what: &str| GgufError::tensor(&self.name, format!("its shape {:?} {what}", self.shape));
        let row = self.shape.last().copied().unwrap_or_default();
        if !(1..=4).contains(&self.shape.len()) || self.shape.contains(&0) {
            return Err(refuse("has no values, or not 1 to 4 dimensions"));
        }
        if row % self.kind.block() != 0 {
            return Err(refuse("has rows that are no whole blocks"));
        }
        let blocks = self.len().map(|len| len / self.kind.block() as u64);
        let bytes = blocks.and_then(|blocks| blocks.checked_mul(self.kind.block_bytes() as u64));
        bytes.filter(|&bytes| bytes < 1 << 56).ok_or_else(|| refuse("is too large for any file"))
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct GgufWriter<W> {
    out: W,
    /// Each tensor begins at a multiple of this.
    alignment: u64,
    /// Bytes written since the first value.
    at: u64,
    plans: std::vec::IntoIter<TensorPlan>,
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header: all keys, and all tensors that will follow. The key `general.alignment` is obeyed.
    ///
    /// # Errors
    /// Those of writing; a shape that its type cannot hold.
    pub fn new(mut out: W, metadata: &Metadata, plans: Vec<TensorPlan>) -> Result<Self, GgufError> {
        let alignment = alignment(metadata)?;
        let mut header = Vec::new();
        header.extend(b"GGUF");
        header.extend(3u32.to_le_bytes());
        header.extend((plans.len() as u64).to_le_bytes());
        header.extend((metadata.iter().len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            put_string(&mut header, key);
            header.extend(value.type_id().to_le_bytes());
            put_value(&mut header, value);
        }
        let mut offset = 0u64;
        for plan in &plans {
            put_string(&mut header, &plan.name);
            header.extend((plan.shape.len() as u32).to_le_bytes());
            plan.shape.iter().rev().for_each(|&length| header.extend((length as u64).to_le_bytes()));
            header.extend(plan.kind.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            let next = offset.checked_add(plan.bytes()?.next_multiple_of(alignment));
            offset = next.ok_or_else(|| GgufError::tensor(&plan.name, "the file would be too large"))?;
        }
        header.resize(header.len().next_multiple_of(alignment as usize), 0);
        out.write_all(&header).map_err(GgufError::io)?;
        Ok(Self { out, alignment, at: 0, plans: plans.into_iter() })
    }

    /// The tensor whose values are next.
    pub fn next(&self) -> Option<&TensorPlan> {
        self.plans.as_slice().first()
    }

    /// Writes the values of the next tensor, in its type.
    ///
    /// # Errors
    /// Those of writing; another number of values than its shape says; a value that its type cannot hold.
    pub fn write_values(&mut self, values: &[f32]) -> Result<(), GgufError> {
        let plan =
            self.plans.next().ok_or_else(|| GgufError::whole("all tensors of the table are written"))?;
        if plan.len() != Some(values.len() as u64) {
            let what = format!("{} values do not make the shape {:?}", values.len(), plan.shape);
            return Err(GgufError::tensor(&plan.name, what));
        }
        let mut bytes = Vec::new();
        for part in values.chunks(CHUNK) {
            bytes.clear();
            encode(plan.kind, part, &mut bytes).map_err(|what| GgufError::tensor(&plan.name, what))?;
            self.put(&bytes)?;
        }
        self.pad()
    }

    /// Writes the bytes of the next tensor as they are.
    ///
    /// # Errors
    /// Those of writing; another number of bytes than its shape and type say.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), GgufError> {
        let plan =
            self.plans.next().ok_or_else(|| GgufError::whole("all tensors of the table are written"))?;
        if plan.bytes()? != bytes.len() as u64 {
            let what = format!("{} bytes do not make the shape {:?}", bytes.len(), plan.shape);
            return Err(GgufError::tensor(&plan.name, what));
        }
        self.put(bytes)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), GgufError> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(GgufError::io)
    }

    fn pad(&mut self) -> Result<(), GgufError> {
        let gap = self.at.next_multiple_of(self.alignment) - self.at;
        self.put(&vec![0; gap as usize])
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of writing; a tensor that was not written.
    pub fn finish(mut self) -> Result<W, GgufError> {
        if let Some(plan) = self.plans.next() {
            return Err(GgufError::tensor(&plan.name, "its values were not given"));
        }
        self.out.flush().map_err(GgufError::io)?;
        Ok(self.out)
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &MetaValue) {
    match value {
        MetaValue::U8(x) => out.extend(x.to_le_bytes()),
        MetaValue::I8(x) => out.extend(x.to_le_bytes()),
        MetaValue::U16(x) => out.extend(x.to_le_bytes()),
        MetaValue::I16(x) => out.extend(x.to_le_bytes()),
        MetaValue::U32(x) => out.extend(x.to_le_bytes()),
        MetaValue::I32(x) => out.extend(x.to_le_bytes()),
        MetaValue::F32(x) => out.extend(x.to_le_bytes()),
        MetaValue::Bool(x) => out.push((*x).into()),
        MetaValue::String(text) => put_string(out, text),
        MetaValue::Array(list) => put_array(out, list),
        MetaValue::U64(x) => out.extend(x.to_le_bytes()),
        MetaValue::I64(x) => out.extend(x.to_le_bytes()),
        MetaValue::F64(x) => out.extend(x.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, list: &MetaArray) {
    fn put<T: Copy, const N: usize>(out: &mut Vec<u8>, list: &[T], bytes: fn(T) -> [u8; N]) {
        out.extend((list.len() as u64).to_le_bytes());
        list.iter().for_each(|&x| out.extend(bytes(x)));
    }
    debug_assert_ne!(list.type_id(), ARRAY);
    out.extend(list.type_id().to_le_bytes());
    match list {
        MetaArray::U8(list) => put(out, list, u8::to_le_bytes),
        MetaArray::I8(list) => put(out, list, i8::to_le_bytes),
        MetaArray::U16(list) => put(out, list, u16::to_le_bytes),
        MetaArray::I16(list) => put(out, list, i16::to_le_bytes),
        MetaArray::U32(list) => put(out, list, u32::to_le_bytes),
        MetaArray::I32(list) => put(out, list, i32::to_le_bytes),
        MetaArray::F32(list) => put(out, list, f32::to_le_bytes),
        MetaArray::Bool(list) => put(out, list, |x| [u8::from(x)]),
        MetaArray::String(list) => {
            out.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|text| put_string(out, text));
        }
        MetaArray::U64(list) => put(out, list, u64::to_le_bytes),
        MetaArray::I64(list) => put(out, list, i64::to_le_bytes),
        MetaArray::F64(list) => put(out, list, f64::to_le_bytes),
    }
}

/// A file under a temporary name, which goes away unless it is kept.
pub(super) struct Temporary {
    path: PathBuf,
    target: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Temporary {
    /// Begins a file that will be at `target`.
    pub(super) fn create(target: &Path) -> Result<Self, GgufError> {
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let path = target.with_file_name(name);
        let file = File::create(&path).map_err(|error| GgufError::io(error).in_file(&path))?;
        Ok(Self { path, target: target.to_path_buf(), file: Some(BufWriter::with_capacity(1 << 20, file)) })
    }

    /// Puts the file in its place.
    pub(super) fn keep(mut self) -> Result<(), GgufError> {
        self.flush().map_err(GgufError::io)?;
        if let Some(file) = self.file.take() {
            file.get_ref().sync_all().map_err(GgufError::io)?;
        }
        std::fs::rename(&self.path, &self.target).map_err(GgufError::io)
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After `keep` it is gone from here, and the answer says so.
        drop(self.file.take());
        std::fs::remove_file(&self.path).ok();
    }
}
