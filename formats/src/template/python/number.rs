//! Numbers as Python prints and reads them.
//!
//! Purpose: `repr` of floats, `int()` and `float()` of text, rounding.
//! Invariant: a float's text is the shortest that reads back as the same float.
//! Must not know: values.

/// A float as `repr` prints it.
pub(in crate::template) fn repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    // Rust changes to exponents at the same sizes as Python, but writes `1e16` for `1e+16`.
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// The digits of a number's text, without the white space around and the underscores between them.
fn digits(text: &str) -> Option<String> {
    let text = text.trim_matches(crate::template::syntax::is_space);
    let bytes = text.as_bytes();
    let lonely = |at: usize| {
        let is_digit =
            |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
        bytes[at] == b'_' && !(is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)))
    };
    match (0..bytes.len()).any(lonely) {
        true => None,
        false => Some(text.replace('_', "")),
    }
}

/// `int(text, base)`; nothing where Python raises a ValueError, and where it has more than 127 bits.
pub(in crate::template) fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = digits(text)?;
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = unsigned.to_ascii_lowercase();
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find(|(prefix, of)| lower.starts_with(prefix) && (base == 0 || base == *of));
    let (radix, body) = match prefixed {
        Some((_, radix)) => (radix, &lower[2..]),
        None if base == 0 => {
            let zeros = lower.chars().all(|digit| digit == '0');
            if lower.starts_with('0') && !zeros {
                return None;
            }
            (10, lower.as_str())
        }
        None => (base, lower.as_str()),
    };
    let valid =
        (2..=36).contains(&radix) && !body.is_empty() && body.chars().all(|digit| digit.is_digit(radix));
    valid.then(|| i128::from_str_radix(&format!("{sign}{body}"), radix).ok()).flatten()
}

/// `float(text)`; nothing where Python raises a ValueError.
pub(in crate::template) fn parse_float(text: &str) -> Option<f64> {
    let text = digits(text)?;
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.');
    if !text.chars().all(allowed) {
        return None;
    }
    text.parse().ok()
}

/// `int(value)` of a float; nothing for what is no number or too large.
pub(in crate::template) fn truncate(value: f64) -> Option<i128> {
    let whole = value.trunc();
    let fits = whole.is_finite() && whole.abs() < 1.7e38;
    fits.then_some(whole as i128)
}

/// `round(value, digits)`: to the nearest, of two equally near to the even one, by the exact decimal value.
pub(in crate::template) fn round(value: f64, digits: i128) -> f64 {
    if !value.is_finite() || digits > 340 {
        return value;
    }
    if digits < -310 {
        return 0.0f64.copysign(value);
    }
    if digits >= 0 {
        let digits = usize::try_from(digits).unwrap_or_default();
        return format!("{value:.digits$}").parse().unwrap_or(value);
    }
    // Tens and more: on the exact integer part, whose decimal text Rust writes in full.
    let places = usize::try_from(-digits).unwrap_or_default();
    round_tens(value, places).copysign(value)
}

fn round_tens(value: f64, places: usize) -> f64 {
    let whole = format!("{:.0}", value.abs().trunc());
    let has_fraction = value.abs().fract() > 0.0;
    let padded = format!("{whole:0>width$}", width = places + 1);
    let (kept, cut) = padded.split_at(padded.len() - places);
    let half = format!("5{}", "0".repeat(places - 1));
    let odd = kept.bytes().last().is_some_and(|digit| digit % 2 == 1);
    let up = match cut.cmp(half.as_str()) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => has_fraction || odd,
    };
    let base: f64 = format!("{kept}{}", "0".repeat(places)).parse().unwrap_or(0.0);
    if !up {
        return base;
    }
    let kept: u128 = kept.parse::<u128>().map_or(0, |kept| kept + 1);
    format!("{kept}{}", "0".repeat(places)).parse().unwrap_or(base)
}
