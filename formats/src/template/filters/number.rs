//! Filters of numbers.
//!
//! Purpose: `abs`, `int`, `float`, `round` and `sum`.
//! Invariant: what is no number becomes the default, where Jinja2 has one.
//! Must not know: the other filters.

use minijinja::Value;

use super::order::Key;
use crate::template::python::arguments::{Arguments, some};
use crate::template::python::kind::{Kind, integer, items, kind, name, string};
use crate::template::python::number::{parse_float, parse_int, round as rounded, truncate};
use crate::template::python::operator::{binary, int};
use crate::template::python::{Result, State, error};

pub(super) fn absolute(value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    match kind(value) {
        Kind::Float(float) => Ok(Value::from(float.abs())),
        _ => {
            let integer = integer(value, "the value of `abs`")?;
            integer.checked_abs().map(int).ok_or_else(|| error("too large a number"))
        }
    }
}

pub(super) fn to_int(value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [default, base] = call.bind(["default", "base"])?;
    let base = base.map_or(Ok(10), |base| integer(&base, "a base"))?;
    let base = u32::try_from(base).map_err(|_| error("a base is 0 or 2 to 36"))?;
    let default = default.unwrap_or(Value::from(0));
    Ok(match kind(value) {
        Kind::Undefined => {
            return Err(error("an undefined value is no number; test it with `is defined` before"));
        }
        Kind::Bool(truth) => Value::from(i64::from(truth)),
        Kind::Int(_) => value.clone(),
        Kind::Float(float) => match truncate(float) {
            Some(whole) => int(whole),
            None if float.is_infinite() => return Err(error("infinity is no integer")),
            None => default,
        },
        Kind::Str(text) => {
            let whole = parse_int(text, base).or_else(|| parse_float(text).and_then(truncate));
            whole.map_or(default, int)
        }
        _ => default,
    })
}

pub(super) fn to_float(value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [default] = call.bind(["default"])?;
    let default = default.unwrap_or(Value::from(0.0));
    Ok(match kind(value) {
        Kind::Undefined => {
            return Err(error("an undefined value is no number; test it with `is defined` before"));
        }
        Kind::Bool(truth) => Value::from(f64::from(u8::from(truth))),
        Kind::Int(integer) => Value::from(integer as f64),
        Kind::Float(_) => value.clone(),
        Kind::Str(text) => parse_float(text).map_or(default, Value::from),
        _ => default,
    })
}

pub(super) fn round(value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [precision, method] = call.bind(["precision", "method"])?;
    let precision = precision.map_or(Ok(0), |precision| integer(&precision, "a precision"))?;
    let method = method.unwrap_or(Value::from("common"));
    let float = match kind(value) {
        Kind::Float(float) => float,
        Kind::Int(_) | Kind::Bool(_) => integer(value, "a number")? as f64,
        _ => return Err(error(format!("a {} cannot be rounded", name(value)))),
    };
    let whole = !matches!(kind(value), Kind::Float(_));
    let scale = 10f64.powi(i32::try_from(precision.clamp(-400, 400)).unwrap_or_default());
    let up = match string(&method, "a method of `round`")? {
        "common" if whole => return round_whole(integer(value, "a number")?, precision),
        "common" => return Ok(Value::from(rounded(float, precision))),
        "ceil" => true,
        "floor" => false,
        _ => return Err(error("the method of `round` is `common`, `ceil` or `floor`")),
    };
    let scaled = float * scale;
    let scaled = if up { scaled.ceil() } else { scaled.floor() };
    match scaled.is_finite() {
        true => Ok(Value::from(scaled / scale)),
        false => Err(error("too large a number")),
    }
}

/// An integer to tens, hundreds and so on; of two equally near to the even one.
fn round_whole(value: i128, precision: i128) -> Result<Value> {
    let Some(unit) =
        u32::try_from(-precision).ok().filter(|places| *places > 0).map(|places| 10i128.checked_pow(places))
    else {
        return Ok(int(value));
    };
    let Some(unit) = unit else { return Ok(Value::from(0)) };
    let (quotient, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
    let up = match (rest * 2).cmp(&unit) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Greater => 1,
        std::cmp::Ordering::Equal => quotient & 1,
    };
    (quotient + up).checked_mul(unit).map(int).ok_or_else(|| error("too large a number"))
}

pub(super) fn sum(state: &mut State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [attribute, start] = call.bind(["attribute", "start"])?;
    let key = Key::new(some(&attribute), None)?;
    let mut total = start.unwrap_or(Value::from(0));
    if matches!(kind(&total), Kind::Str(_)) {
        return Err(error("`sum` takes no text; use `join`"));
    }
    for item in items(state, value)? {
        let item = key.of(state, &item)?;
        total = binary(state, &total, "+", &item)?;
    }
    Ok(total)
}
