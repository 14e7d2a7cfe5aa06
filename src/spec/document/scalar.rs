//! Plain scalars by the core schema of YAML 1.2, and numbers by their spelling.
//!
//! Purpose: the type of a plain scalar; whether a spelling is also one of JSON.
//! Invariant: two spellings of one whole number that fits into 64 bits give one value, exactly and never
//! through a float; what is no number stays a string.
//! Must not know: YAML's syntax, where a scalar stands.

use std::borrow::Cow;

use serde_json::Number;

use crate::spec::document::node::Data;

/// Types a plain scalar.
pub fn plain_scalar(text: Cow<'_, str>) -> Data {
    match text.as_ref() {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "true" | "True" | "TRUE" => return Data::Bool(true),
        "false" | "False" | "FALSE" => return Data::Bool(false),
        _ => {}
    }
    number(&text).unwrap_or_else(|| Data::String(text.into_owned()))
}

/// Whether a text is a whole number in decimal digits.
pub fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a text is a number in JSON's syntax.
pub fn is_json_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.starts_with('0')) {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

fn number(text: &str) -> Option<Data> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            return valid.then(|| match u64::from_str_radix(digits, radix) {
                Ok(value) => Data::Number(value.into()),
                Err(_) => Data::OutOfRange,
            });
        }
    }
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    if !unsigned.contains(|c: char| c.is_ascii_digit()) || !unsigned.chars().all(plain) {
        return None;
    }
    let float = text.parse::<f64>().ok()?;
    if let Some(whole) = whole(text) {
        return Some(Data::Number(whole));
    }
    // What overflows is infinite; what is not nothing and too small becomes zero.
    match Number::from_f64(float).filter(|_| float != 0.0) {
        Some(number) => Some(Data::Number(number)),
        None => Some(Data::OutOfRange),
    }
}

/// The whole number of 64 bits that a decimal number is, however it is spelt (`1.0`, `1e3`, `0.5e1`).
fn whole(text: &str) -> Option<Number> {
    /// The most decimal digits of a number of 64 bits.
    const MOST: i64 = 20;
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [before, after].concat();
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0u64.into());
    }
    let kept = significant.trim_end_matches('0');
    let dropped = (significant.len() - kept.len()) as i64;
    let exponent = exponent.parse::<i64>().ok()?;
    let zeros = exponent.checked_sub(after.len() as i64)?.checked_add(dropped)?;
    if !(0..=MOST).contains(&zeros) || kept.len() as i64 > MOST {
        return None;
    }
    let value =
        kept.parse::<i128>().ok()?.checked_mul(10i128.checked_pow(u32::try_from(zeros).ok()?)?)? * sign;
    u64::try_from(value).map(Number::from).or_else(|_| i64::try_from(value).map(Number::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Data {
        plain_scalar(Cow::Borrowed(text))
    }

    #[test]
    fn whole_numbers_of_64_bits_are_exact_however_they_are_spelt() {
        for (text, value) in [
            ("18446744073709551615", u64::MAX),
            ("18446744073709551615.0", u64::MAX),
            ("1844674407370955161.5e1", u64::MAX),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9.007199254740993e15", 9_007_199_254_740_993),
            ("1e19", 10_000_000_000_000_000_000),
            ("000.10e2", 10),
            ("-0.0", 0),
        ] {
            assert_eq!(typed(text), Data::Number(value.into()), "{text}");
        }
        assert_eq!(typed("-9223372036854775808"), Data::Number(i64::MIN.into()));
        assert_eq!(
            typed("18446744073709551616"),
            Data::Number(Number::from_f64(1.8446744073709552e19).unwrap())
        );
    }

    #[test]
    fn a_number_that_64_bits_cannot_hold_is_told_apart_from_a_string() {
        for text in ["1e999", "-1e999", "1e-999", "0x10000000000000000"] {
            assert_eq!(typed(text), Data::OutOfRange, "{text}");
        }
        assert_eq!(typed("0e999"), Data::Number(0.into()));
        assert_eq!(typed("1e99999999999999999999"), Data::OutOfRange);
    }

    #[test]
    fn the_spellings_of_json_numbers_are_known() {
        for text in ["0", "-1", "3.10", "1e-5", "99999999999999999998", "0.5E+3", "1e999"] {
            assert!(is_json_number(text), "{text}");
        }
        for text in ["", "-", "02134", ".5", "1.", "+2", "0x10", "1e", "1e+", "1.2.3", "1 "] {
            assert!(!is_json_number(text), "{text}");
        }
    }
}
