//! String and number literals.
//!
//! Purpose: what Jinja2 makes of them, which is what Python's `unicode-escape` codec and number syntax make of them.
//! Invariant: the length returned is the length of the literal in the source.
//! Must not know: the grammar.

use super::lexer::Kind;

/// The string literal at the beginning of `rest`, and its length.
pub(super) fn string(rest: &str) -> Result<(Kind, usize), String> {
    let quote = rest.chars().next().unwrap_or('"');
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return Ok((Kind::Str(unescape(&rest[1..at])?), at + 1));
        }
    }
    Err("the string has no end".into())
}

/// Jinja2 turns what is not ASCII into escapes before it decodes them all; so does this.
fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let ascii: String = text.chars().map(escaped).collect();
    let mut out = String::with_capacity(text.len());
    let mut rest = ascii.as_str();
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = decode(&rest[at + 1..], &mut out)?;
    }
    out.push_str(rest);
    Ok(out)
}

fn escaped(character: char) -> String {
    match u32::from(character) {
        0..0x80 => character.to_string(),
        code @ 0x80..0x100 => format!("\\x{code:02x}"),
        code @ 0x100..0x1_0000 => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    }
}

/// Decodes the escape whose backslash is before `rest`; gives what follows it.
fn decode<'r>(rest: &'r str, out: &mut String) -> Result<&'r str, String> {
    let Some(kind) = rest.chars().next() else { return Err("`\\` at the end of a string".into()) };
    let after = &rest[kind.len_utf8()..];
    let plain = match kind {
        '\n' => return Ok(after),
        '\\' | '\'' | '"' => kind,
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '0'..='7' => {
            let length = rest.chars().take(3).take_while(|digit| matches!(digit, '0'..='7')).count();
            out.push(character(&rest[..length], 8)?);
            return Ok(&rest[length..]);
        }
        'x' | 'u' | 'U' => {
            let length = match kind {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let digits = after.get(..length).ok_or_else(|| format!("a truncated `\\{kind}` escape"))?;
            out.push(character(digits, 16)?);
            return Ok(&after[length..]);
        }
        'N' => return Err("`\\N{..}` is not supported; write the character itself".into()),
        other => {
            out.push('\\');
            other
        }
    };
    out.push(plain);
    Ok(after)
}

fn character(digits: &str, radix: u32) -> Result<char, String> {
    let code = Some(digits).filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)));
    let code = code.and_then(|digits| u32::from_str_radix(digits, radix).ok()).and_then(char::from_u32);
    code.ok_or_else(|| format!("the escape with `{digits}` is no character"))
}

/// The number literal at the beginning of `rest`, which is a digit, and its length.
pub(super) fn number(rest: &str, after_dot: bool) -> Result<(Kind, usize), String> {
    if let Some(length) = float_length(rest).filter(|_| !after_dot) {
        let text = rest[..length].replace('_', "");
        let value: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
        return match value.is_finite() {
            true => Ok((Kind::Float(value), length)),
            false => Err(format!("the number `{text}` is too large")),
        };
    }
    let (radix, skip, length) = match rest.as_bytes() {
        [b'0', b'b' | b'B', ..] => (2, 2, digits(&rest[2..], 2, true)),
        [b'0', b'o' | b'O', ..] => (8, 2, digits(&rest[2..], 8, true)),
        [b'0', b'x' | b'X', ..] => (16, 2, digits(&rest[2..], 16, true)),
        [b'0', ..] => (10, 0, 0),
        _ => (10, 0, digits(rest, 10, false)),
    };
    // `0x` without digits is a zero and a name; `007` is `00` and `7`.
    let (skip, length) = if length == 0 { (0, zeros(rest)) } else { (skip, length) };
    let radix = if skip == 0 { 10 } else { radix };
    let text = rest[skip..skip + length].replace('_', "");
    let value =
        i128::from_str_radix(&text, radix).map_err(|_| format!("the number `{text}` is too large"))?;
    Ok((Kind::Int(value), skip + length))
}

/// The length of digits in which single underscores stand between digits (or also before the first).
fn digits(text: &str, radix: u32, leading: bool) -> usize {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(|byte| char::from(*byte).is_digit(radix));
    let mut at = 0;
    loop {
        let underscore = bytes.get(at) == Some(&b'_') && (at > 0 || leading);
        match (underscore, is_digit(at), is_digit(at + 1)) {
            (_, true, _) => at += 1,
            (true, _, true) => at += 2,
            _ => return at,
        }
    }
}

fn zeros(text: &str) -> usize {
    let length = digits(text, 10, false);
    let zeros = text[..length].trim_start_matches(['0', '_']).len();
    text[..length - zeros].trim_end_matches('_').len()
}

/// The length of a float: digits, a fraction or an exponent or both.
fn float_length(text: &str) -> Option<usize> {
    let mut length = digits(text, 10, false);
    let fraction = text[length..].strip_prefix('.').map_or(0, |text| digits(text, 10, false));
    if fraction > 0 {
        length += 1 + fraction;
    }
    let exponent = text[length..].strip_prefix(['e', 'E']).map_or(0, |text| {
        let sign = usize::from(text.starts_with(['+', '-']));
        match digits(&text[sign..], 10, false) {
            0 => 0,
            digits => 1 + sign + digits,
        }
    });
    (fraction + exponent > 0).then_some(length + exponent)
}
