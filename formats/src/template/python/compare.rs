//! Comparisons.
//!
//! Purpose: `==`, `<` and `in` as Python has them, with an error where Python raises a TypeError.
//! Invariant: a comparison pays for the lighter of both sides before it walks through them.
//! Must not know: how operators are written.

use std::cmp::Ordering;

use minijinja::Value;

use super::kind::{Kind, items, kind, name};
use super::object::{Form, List, Shape, hashable, pay_bytes};
use super::{Result, State, error};

/// `left == right`.
pub(in crate::template) fn equal(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<bool> {
    state.consume_fuel(Shape::of(left).weight.min(Shape::of(right).weight))?;
    Ok(same(left, right))
}

fn same(left: &Value, right: &Value) -> bool {
    match (kind(left), kind(right)) {
        (Kind::Undefined, Kind::Undefined) | (Kind::None, Kind::None) => true,
        (Kind::Str(left), Kind::Str(right)) => left == right,
        (Kind::List(left), Kind::List(right)) => same_lists(left, right),
        (Kind::Dict(one), Kind::Dict(other)) => {
            let same_entry =
                |(key, value): (Value, Value)| other.get(&key).is_some_and(|found| same(&value, &found));
            std::ptr::eq(one, other) || (one.length == other.length && one.entries().all(same_entry))
        }
        (left, right) => numbers(&left, &right).is_some_and(|order| order == Some(Ordering::Equal)),
    }
}

fn same_lists(left: &List, right: &List) -> bool {
    let comparable = match (left.form, right.form) {
        (Form::List, Form::List) | (Form::Range(..), Form::Range(..)) => true,
        (Form::View(left), Form::View(right)) => left == right && left != "dict_values",
        _ => left.is_tuple() && right.is_tuple(),
    };
    let same_items = || {
        left.items.len() == right.items.len() && left.items.iter().zip(&right.items).all(|(a, b)| same(a, b))
    };
    std::ptr::eq(left, right) || (comparable && same_items())
}

/// The order of two numbers: nothing if one is no number, `Some(None)` if one is not a number by IEEE.
fn numbers(left: &Kind<'_>, right: &Kind<'_>) -> Option<Option<Ordering>> {
    let whole = |kind: &Kind<'_>| match kind {
        Kind::Bool(truth) => Some(i128::from(*truth)),
        Kind::Int(integer) => Some(*integer),
        _ => None,
    };
    match (whole(left), whole(right), left, right) {
        (Some(left), Some(right), ..) => Some(Some(left.cmp(&right))),
        (None, Some(right), Kind::Float(left), _) => Some(float_to_int(*left, right)),
        (Some(left), None, _, Kind::Float(right)) => Some(float_to_int(*right, left).map(Ordering::reverse)),
        (None, None, Kind::Float(left), Kind::Float(right)) => Some(left.partial_cmp(right)),
        _ => None,
    }
}

/// Exactly: a large integer is not rounded to a float first.
fn float_to_int(float: f64, integer: i128) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float.abs() >= 1.7e38 {
        return Some(if float > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    let whole = float.trunc();
    let order = (whole as i128).cmp(&integer);
    Some(order.then_with(|| float.partial_cmp(&whole).unwrap_or(Ordering::Equal)))
}

/// The order of two values; nothing if neither is less (not a number), an error if they have none.
pub(in crate::template) fn order(
    state: &State<'_, '_>,
    left: &Value,
    right: &Value,
) -> Result<Option<Ordering>> {
    state.consume_fuel(Shape::of(left).weight.min(Shape::of(right).weight))?;
    ordered(left, right)
}

fn ordered(left: &Value, right: &Value) -> Result<Option<Ordering>> {
    match (kind(left), kind(right)) {
        (Kind::Str(left), Kind::Str(right)) => return Ok(Some(left.cmp(right))),
        (Kind::List(one), Kind::List(other)) if alike(one, other) => {
            for (left, right) in one.items.iter().zip(&other.items) {
                if !same(left, right) {
                    return ordered(left, right);
                }
            }
            return Ok(Some(one.items.len().cmp(&other.items.len())));
        }
        (left, right) => {
            if let Some(order) = numbers(&left, &right) {
                return Ok(order);
            }
        }
    }
    Err(error(format!("a {} and a {} have no order", name(left), name(right))))
}

fn alike(left: &List, right: &List) -> bool {
    (left.form == Form::List && right.form == Form::List) || (left.is_tuple() && right.is_tuple())
}

/// `left OPERATOR right`.
pub(in crate::template) fn holds(
    state: &State<'_, '_>,
    left: &Value,
    operator: &str,
    right: &Value,
) -> Result<bool> {
    Ok(match operator {
        "==" => equal(state, left, right)?,
        "!=" => !equal(state, left, right)?,
        "in" => contains(state, right, left)?,
        "not in" => !contains(state, right, left)?,
        "<" => order(state, left, right)? == Some(Ordering::Less),
        "<=" => matches!(order(state, left, right)?, Some(Ordering::Less | Ordering::Equal)),
        ">" => order(state, left, right)? == Some(Ordering::Greater),
        ">=" => matches!(order(state, left, right)?, Some(Ordering::Greater | Ordering::Equal)),
        other => return Err(error(format!("there is no comparison `{other}`"))),
    })
}

/// `value in container`.
pub(in crate::template) fn contains(state: &State<'_, '_>, container: &Value, value: &Value) -> Result<bool> {
    match (kind(container), kind(value)) {
        (Kind::Str(whole), Kind::Str(part)) => {
            pay_bytes(state, whole.len())?;
            Ok(whole.contains(part))
        }
        (Kind::Str(_), _) => Err(error(format!("only a str can be in a str, not a {}", name(value)))),
        (Kind::Dict(dict), _) => {
            hashable(value)?;
            state.consume_fuel(Shape::of(value).weight)?;
            Ok(dict.get(value).is_some())
        }
        (Kind::Undefined, _) => Ok(false),
        (Kind::List(list), _) => {
            for item in &list.items {
                state.consume_fuel(1)?;
                if equal(state, item, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Kind::Generator(_), _) => {
            let items = items(state, container)?;
            items.iter().try_fold(false, |found, item| Ok(found || equal(state, item, value)?))
        }
        _ => Err(error(format!("nothing can be in a {}", name(container)))),
    }
}
