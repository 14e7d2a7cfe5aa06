//! Numbers and their bounds.
//!
//! Purpose: compares numbers exactly, and gives a number the form that its schema says.
//! Invariant: whole numbers of 64 bits never go through a float.
//! Must not know: where a number stands.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Compares two numbers by value.
pub fn compare(a: &Number, b: &Number) -> Ordering {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_float(a, b.as_f64().unwrap_or(0.0)),
        (None, Some(b)) => compare_float(b, a.as_f64().unwrap_or(0.0)).reverse(),
        (None, None) => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// A whole number of 64 bits.
pub fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn compare_float(whole: i128, float: f64) -> Ordering {
    /// Far beyond 64 bits, and a whole number as a float.
    const FAR: f64 = 1e30;
    if float.abs() > FAR {
        return if float > 0.0 { Ordering::Less } else { Ordering::Greater };
    }
    let below = float.floor();
    whole.cmp(&(below as i128)).then(if float > below { Ordering::Less } else { Ordering::Equal })
}

/// The bound that a number breaks, in words.
pub fn broken_bound(number: &Number, schema: &Value) -> Option<String> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_number);
    if let Some((least, most)) = integer_range(schema)
        && let Some(value) = whole(number)
    {
        if value < least && bound("minimum").is_none() {
            return Some(format!("at least {least}"));
        }
        if value > most && bound("maximum").is_none() {
            return Some(format!("at most {most}"));
        }
    }
    let breaks = |key: &str, wrong: &[Ordering]| bound(key).filter(|b| wrong.contains(&compare(number, b)));
    use Ordering::{Equal, Greater, Less};
    let text = |bound: &Number| match bound.as_f64() {
        Some(float) if bound.is_f64() => float.to_string(),
        _ => bound.to_string(),
    };
    let least = breaks("minimum", &[Less]).map(|b| format!("at least {}", text(b)));
    let most = || breaks("maximum", &[Greater]).map(|b| format!("at most {}", text(b)));
    let above = || breaks("exclusiveMinimum", &[Less, Equal]).map(|b| format!("above {}", text(b)));
    let below = || breaks("exclusiveMaximum", &[Greater, Equal]).map(|b| format!("below {}", text(b)));
    least.or_else(most).or_else(above).or_else(below)
}

/// The range of a Rust integer, which schemars names in `format`.
fn integer_range(schema: &Value) -> Option<(i128, i128)> {
    Some(match schema.get("format").and_then(Value::as_str)? {
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint64" | "uint" => (0, u64::MAX.into()),
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "int64" | "int" => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    })
}

/// A number as the float that its schema says; none when it is out of the float's range.
pub fn float(number: &Number, schema: &Value) -> Option<Number> {
    let value = number.as_f64()?;
    if schema.get("format").and_then(Value::as_str) != Some("float") {
        return Number::from_f64(value);
    }
    // A 32-bit default such as 0.1 reaches JSON as 0.10000000149011612: take the shortest
    // spelling of both, so that it equals what people write.
    let single = value as f32;
    if single == 0.0 && value != 0.0 {
        return None;
    }
    Number::from_f64(single.to_string().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn number(value: Value) -> Number {
        value.as_number().unwrap().clone()
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let order = |a: Value, b: Value| compare(&number(a), &number(b));
        assert_eq!(order(json!(9_007_199_254_740_993u64), json!(9_007_199_254_740_992.0)), Ordering::Greater);
        assert_eq!(order(json!(u64::MAX), json!(18_446_744_073_709_551_616.0)), Ordering::Less);
        assert_eq!(order(json!(3), json!(3.5)), Ordering::Less);
        assert_eq!(order(json!(-4), json!(-3.5)), Ordering::Less);
        assert_eq!(order(json!(-3), json!(-3.5)), Ordering::Greater);
        assert_eq!(order(json!(2), json!(2.0)), Ordering::Equal);
        assert_eq!(order(json!(1e300), json!(u64::MAX)), Ordering::Greater);
    }

    #[test]
    fn a_float_of_32_bits_is_shortest_and_in_range() {
        let single = json!({ "format": "float" });
        assert_eq!(float(&number(json!(0.10000000149011612)), &single), Some(number(json!(0.1))));
        assert_eq!(float(&number(json!(1e39)), &single), None);
        assert_eq!(float(&number(json!(1e-60)), &single), None);
    }
}
