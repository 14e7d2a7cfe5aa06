//! The bytes of a tensor, from its values.
//!
//! Purpose: F32, F16 and Q8_0 as `gguf.quants.quantize` of llama.cpp makes them, to the bit.
//! Invariant: a value that a type cannot hold is an error, never infinity.
//! Must not know: files, names, shapes.

use half::f16;

use super::TensorKind;

/// Appends the values in a type. Their number is a multiple of its block.
///
/// # Errors
/// What is wrong with which value.
pub(in crate::gguf) fn encode(kind: TensorKind, values: &[f32], out: &mut Vec<u8>) -> Result<(), String> {
    if let Some(i) = values.iter().position(|x| !x.is_finite()) {
        return Err(format!(
            "its value {i} is {}, so nothing is written; the weights are damaged",
            values[i]
        ));
    }
    out.reserve(values.len() / kind.block() * kind.block_bytes());
    match kind {
        TensorKind::F32 => values.iter().for_each(|x| out.extend(x.to_le_bytes())),
        TensorKind::F16 => {
            for &x in values {
                out.extend(halved(x)?.to_le_bytes());
            }
        }
        TensorKind::Q8_0 => {
            for block in values.chunks_exact(kind.block()) {
                q8_0(block, out)?;
            }
        }
        _ => return Err(format!("Kiln writes F32, F16 and Q8_0, not {}", kind.name())),
    }
    Ok(())
}

fn halved(x: f32) -> Result<f16, String> {
    let narrow = f16::from_f32(x);
    match narrow.is_finite() {
        true => Ok(narrow),
        false => Err(format!("{x} is too large for F16; write F32")),
    }
}

fn q8_0(block: &[f32], out: &mut Vec<u8>) -> Result<(), String> {
    let d = block.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out.extend(halved(d)?.to_le_bytes());
    // Half away from zero. A tiny scale has an infinite inverse; the cast is then 127 or 0, and the scale in F16 is 0.
    out.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
    Ok(())
}
