//! Operators.
//!
//! Purpose: `+ - * / // % ** ~` and the signs, as Python has them.
//! Invariant: a result that would be larger than its operands is paid for before it is made; an integer beyond 127 bits is
//! an error.
//! Must not know: how operators are written.

use minijinja::Value;

use super::kind::{Kind, integer, kind, name};
use super::object::{Form, List, pay_bytes, pay_items};
use super::text::{as_safe, escaped, text};
use super::{Result, State, error, percent};

/// `left OPERATOR right`.
pub(in crate::template) fn binary(
    state: &mut State<'_, '_>,
    left: &Value,
    operator: &str,
    right: &Value,
) -> Result<Value> {
    match (operator, kind(left), kind(right)) {
        ("+", Kind::Str(_), Kind::Str(_)) => return joined(state, left, right),
        ("+", Kind::List(one), Kind::List(other)) => {
            let form = match (one.form, other.form) {
                (Form::List, Form::List) => Form::List,
                _ if one.is_tuple() && other.is_tuple() => Form::Tuple,
                _ => return Err(impossible(left, operator, right)),
            };
            pay_items(state, one.items.len() + other.items.len())?;
            return List::value(one.items.iter().chain(&other.items).cloned().collect(), form);
        }
        ("*", Kind::Str(_) | Kind::List(_), Kind::Int(_) | Kind::Bool(_)) => {
            return repeated(state, left, right);
        }
        ("*", Kind::Int(_) | Kind::Bool(_), Kind::Str(_) | Kind::List(_)) => {
            return repeated(state, right, left);
        }
        ("%", Kind::Str(_), _) => return percent::format(state, left, right),
        _ => {}
    }
    match (number(left), number(right)) {
        (Some(Number::Int(left)), Some(Number::Int(right))) => integers(left, operator, right),
        (Some(one), Some(other)) => floats(one.float(), operator, other.float()),
        _ => Err(impossible(left, operator, right)),
    }
}

fn impossible(left: &Value, operator: &str, right: &Value) -> minijinja::Error {
    error(format!("`{operator}` takes no {} and {}", name(left), name(right)))
}

enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn float(&self) -> f64 {
        match self {
            Self::Int(integer) => *integer as f64,
            Self::Float(float) => *float,
        }
    }
}

fn number(value: &Value) -> Option<Number> {
    match kind(value) {
        Kind::Bool(truth) => Some(Number::Int(truth.into())),
        Kind::Int(integer) => Some(Number::Int(integer)),
        Kind::Float(float) => Some(Number::Float(float)),
        _ => None,
    }
}

/// Text and text; if one side is marked as safe, the other is escaped.
fn joined(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<Value> {
    let safe = left.is_safe() || right.is_safe();
    if safe {
        let whole = escaped(state, left)? + &escaped(state, right)?;
        pay_bytes(state, whole.len())?;
        return Ok(as_safe(whole, true));
    }
    let (left, right) = (text(state, left)?, text(state, right)?);
    pay_bytes(state, left.len() + right.len())?;
    Ok(Value::from([left.as_ref(), right.as_ref()].concat()))
}

fn repeated(state: &State<'_, '_>, value: &Value, count: &Value) -> Result<Value> {
    let count = usize::try_from(integer(count, "a count")?.max(0)).unwrap_or(usize::MAX);
    match kind(value) {
        Kind::Str(text) => {
            pay_bytes(state, text.len().saturating_mul(count))?;
            Ok(as_safe(text.repeat(if text.is_empty() { 0 } else { count }), value.is_safe()))
        }
        Kind::List(list) if list.form == Form::List || list.is_tuple() => {
            pay_items(state, list.items.len().saturating_mul(count))?;
            let form = if list.is_tuple() { Form::Tuple } else { Form::List };
            let count = if list.items.is_empty() { 0 } else { count };
            List::value(std::iter::repeat_n(&list.items, count).flatten().cloned().collect(), form)
        }
        _ => Err(error(format!("a {} cannot be repeated", name(value)))),
    }
}

fn integers(left: i128, operator: &str, right: i128) -> Result<Value> {
    let result = match operator {
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" if right != 0 => return Ok(Value::from(left as f64 / right as f64)),
        "//" if right != 0 => floor_division(left, right).map(|(quotient, _)| quotient),
        "%" if right != 0 => floor_division(left, right).map(|(_, rest)| rest),
        "**" if right < 0 && left != 0 => return power(left as f64, right as f64),
        "**" if right >= 0 => {
            u32::try_from(right).ok().and_then(|right| left.checked_pow(right)).or(match left {
                0 | 1 => Some(left),
                -1 => Some(1 - 2 * (right & 1)),
                _ => None,
            })
        }
        "/" | "//" | "%" | "**" => return Err(error("a division by zero")),
        other => return Err(error(format!("there is no operator `{other}`"))),
    };
    result.map(int).ok_or_else(|| error(format!("{left} {operator} {right} is too large a number")))
}

/// An integer in the form that minijinja compares fastest.
pub(in crate::template) fn int(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value), Value::from)
}

fn floor_division(left: i128, right: i128) -> Option<(i128, i128)> {
    let (quotient, rest) = (left.checked_div(right)?, left.checked_rem(right)?);
    if rest != 0 && (rest < 0) != (right < 0) {
        return Some((quotient.checked_sub(1)?, rest.checked_add(right)?));
    }
    Some((quotient, rest))
}

fn floats(left: f64, operator: &str, right: f64) -> Result<Value> {
    if right == 0.0 && matches!(operator, "/" | "//" | "%") {
        return Err(error("a division by zero"));
    }
    Ok(Value::from(match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" => left / right,
        "//" => float_division(left, right).0,
        "%" => float_division(left, right).1,
        "**" => return power(left, right),
        other => return Err(error(format!("there is no operator `{other}`"))),
    }))
}

/// `divmod` of CPython.
fn float_division(left: f64, right: f64) -> (f64, f64) {
    let mut rest = left % right;
    let mut quotient = (left - rest) / right;
    if rest == 0.0 {
        rest = 0.0f64.copysign(right);
    } else if (right < 0.0) != (rest < 0.0) {
        rest += right;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0.0f64.copysign(left / right), rest);
    }
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}

fn power(left: f64, right: f64) -> Result<Value> {
    if left == 0.0 && right < 0.0 {
        return Err(error("a division by zero"));
    }
    if left < 0.0 && left.is_finite() && right.is_finite() && right.fract() != 0.0 {
        return Err(error("complex numbers are not supported"));
    }
    let result = left.powf(right);
    match result.is_infinite() && left.is_finite() && right.is_finite() {
        true => Err(error(format!("{left} ** {right} is too large a number"))),
        false => Ok(Value::from(result)),
    }
}

/// `-value` or `+value`.
pub(in crate::template) fn sign(value: &Value, negative: bool) -> Result<Value> {
    match number(value) {
        Some(Number::Int(integer)) if negative => {
            integer.checked_neg().map(int).ok_or_else(|| error("too large a number"))
        }
        Some(Number::Int(integer)) => Ok(int(integer)),
        Some(Number::Float(float)) => Ok(Value::from(if negative { -float } else { float })),
        None => Err(error(format!("a {} has no sign", name(value)))),
    }
}

/// `first ~ rest ~ ..`, all as text.
pub(in crate::template) fn concatenated<'v>(
    state: &State<'_, '_>,
    values: impl Iterator<Item = &'v Value>,
) -> Result<Value> {
    let mut whole = String::new();
    for value in values {
        let part = text(state, value)?;
        pay_bytes(state, part.len())?;
        whole.push_str(&part);
    }
    Ok(Value::from(whole))
}
