//! One field of a format: a number or text with a width.
//!
//! Purpose: what `%`-formatting and `str.format` share: digits, signs, grouping, padding.
//! Invariant: widths and precisions are bounded, so that a field is never large.
//! Must not know: how fields are spelled.

use super::{Result, error};

/// The most characters of a width or a precision.
pub(super) const MAX_WIDTH: usize = 10_000;

/// How a field is written.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) fill: char,
    /// `<`, `>`, `^` or `=` (between sign and digits); a space where the kind decides.
    pub(super) align: char,
    /// `+` or space before numbers that are not negative; `-` is the same as none (`\0`).
    pub(super) sign: char,
    /// Whether zeros pad numbers behind their sign, since no other alignment was given.
    pub(super) zero: bool,
    pub(super) alternate: bool,
    pub(super) width: usize,
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
    /// The letter of the type; a space where there is none.
    pub(super) letter: char,
}

impl Default for Field {
    fn default() -> Self {
        Self {
            fill: ' ',
            align: ' ',
            sign: '\0',
            zero: false,
            alternate: false,
            width: 0,
            grouping: None,
            precision: None,
            letter: ' ',
        }
    }
}

/// A width or a precision, within its bound.
pub(super) fn bounded(number: usize) -> Result<usize> {
    match number > MAX_WIDTH {
        true => Err(error(format!("a width or precision of more than {MAX_WIDTH} in a format"))),
        false => Ok(number),
    }
}

impl Field {
    /// Text, cut to the precision and padded.
    pub(super) fn text(&self, text: &str) -> String {
        let cut: String = text.chars().take(self.precision.unwrap_or(usize::MAX)).collect();
        self.pad("", &cut, '<')
    }

    /// An integer in the radix of the letter.
    pub(super) fn integer(&self, value: i128) -> String {
        let magnitude = value.unsigned_abs();
        let (mut digits, prefix, group) = match self.letter {
            'x' => (format!("{magnitude:x}"), "0x", 4),
            'X' => (format!("{magnitude:X}"), "0X", 4),
            'o' => (format!("{magnitude:o}"), "0o", 4),
            'b' => (format!("{magnitude:b}"), "0b", 4),
            _ => (magnitude.to_string(), "", 3),
        };
        // Only `%d` has a precision: the least number of digits.
        if let Some(least) = self.precision {
            digits = format!("{digits:0>least$}");
        }
        let prefix = if self.alternate { prefix } else { "" };
        self.number(value < 0, prefix, &digits, "", group)
    }

    /// A float by the letter: `e`, `f`, `g`, `%` or none.
    pub(super) fn float(&self, value: f64) -> String {
        let upper = self.letter.is_ascii_uppercase();
        let magnitude = value.abs();
        let mut text = if !value.is_finite() {
            if value.is_nan() { "nan".into() } else { "inf".into() }
        } else {
            match self.letter.to_ascii_lowercase() {
                'e' => scientific(magnitude, self.precision.unwrap_or(6), self.alternate),
                'f' => self.fixed(magnitude),
                '%' => self.fixed(magnitude * 100.0) + "%",
                'g' | 'n' => general(magnitude, self.precision.unwrap_or(6).max(1), self.alternate, false),
                _ => match self.precision {
                    None => super::number::repr(magnitude),
                    Some(precision) => general(magnitude, precision.max(1), self.alternate, true),
                },
            }
        };
        if upper {
            text = text.to_ascii_uppercase();
        }
        let whole = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = text.split_at(whole);
        let negative = value.is_sign_negative() && !value.is_nan();
        self.number(negative, "", whole, rest, 3)
    }

    fn fixed(&self, value: f64) -> String {
        let precision = self.precision.unwrap_or(6);
        let point = if self.alternate && precision == 0 { "." } else { "" };
        format!("{value:.precision$}{point}")
    }

    /// Sign, prefix, grouped digits and the rest, padded.
    fn number(&self, negative: bool, prefix: &str, digits: &str, rest: &str, group: usize) -> String {
        let sign = match (negative, self.sign) {
            (true, _) => "-",
            (false, '+') => "+",
            (false, ' ') => " ",
            _ => "",
        };
        let head = format!("{sign}{prefix}");
        let Some(separator) = self.grouping.filter(|_| !digits.is_empty()) else {
            return self.pad(&head, &format!("{digits}{rest}"), '>');
        };
        let mut grouped = grouped(digits, separator, group);
        if self.fill == '0' && self.align == '=' {
            // Zeros are grouped as well, and a separator never comes first.
            let mut zeros = digits.to_owned();
            while head.len() + grouped.len() + rest.len() < self.width {
                zeros.insert(0, '0');
                grouped = self::grouped(&zeros, separator, group);
            }
            return format!("{head}{grouped}{rest}");
        }
        self.pad(&head, &format!("{grouped}{rest}"), '>')
    }

    fn pad(&self, head: &str, body: &str, default: char) -> String {
        let length = head.chars().count() + body.chars().count();
        let missing = self.width.saturating_sub(length);
        let fill = |count: usize| self.fill.to_string().repeat(count);
        match if self.align == ' ' { default } else { self.align } {
            '<' => format!("{head}{body}{}", fill(missing)),
            '^' => format!("{}{head}{body}{}", fill(missing / 2), fill(missing - missing / 2)),
            '=' => format!("{head}{}{body}", fill(missing)),
            _ => format!("{}{head}{body}", fill(missing)),
        }
    }
}

fn grouped(digits: &str, separator: char, group: usize) -> String {
    let mut out = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(group) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

fn scientific(value: f64, precision: usize, alternate: bool) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    let point = if alternate && precision == 0 { "." } else { "" };
    format!("{mantissa}{point}e{sign}{digits:0>2}")
}

/// `g`; as `str.format` without a letter if `default`: then a fraction is never missing.
fn general(value: f64, precision: usize, alternate: bool, default: bool) -> String {
    let text = format!("{value:.0$e}", precision - 1);
    let exponent: i64 =
        text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or_default();
    let most = precision as i64;
    let fixed = exponent >= -4 && exponent < most - i64::from(default);
    let mut text = if fixed {
        let digits = usize::try_from(most - 1 - exponent).unwrap_or_default();
        format!("{value:.digits$}")
    } else {
        scientific(value, precision - 1, alternate)
    };
    if !alternate {
        text = without_zeros(&text);
    }
    let bare = !text.contains(['.', 'e']);
    match (alternate, default) {
        (true, _) if bare => text + ".",
        (false, true) if bare => text + ".0",
        _ => text,
    }
}

fn without_zeros(text: &str) -> String {
    let (mantissa, exponent) = text.find('e').map_or((text, ""), |at| text.split_at(at));
    if !mantissa.contains('.') {
        return text.to_owned();
    }
    format!("{}{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
}
