//! `text % values`.
//!
//! Purpose: printf-style formatting as Python's `str` has it.
//! Invariant: every value is used, once; widths are bounded.
//! Must not know: filters.

use std::iter::Peekable;
use std::str::Chars;

use minijinja::Value;

use super::field::{Field, MAX_WIDTH, bounded};
use super::kind::{Kind, integer, kind, name};
use super::number;
use super::object::pay_bytes;
use super::text::{as_safe, escape, repr, text};
use super::{Result, State, error};

/// `format % values`.
pub(in crate::template) fn format(state: &State<'_, '_>, format: &Value, values: &Value) -> Result<Value> {
    let pattern = text(state, format)?;
    pay_bytes(state, pattern.len())?;
    let safe = format.is_safe();
    let mut source = Source::new(values);
    let mut out = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let field = field(state, &mut rest, &mut source, safe)?;
        pay_bytes(state, field.len() + 64)?;
        out.push_str(&field);
    }
    match source.is_used_up() {
        true => Ok(as_safe(out, safe)),
        false => Err(error("not all values are used by the format")),
    }
}

/// Where the values come from.
struct Source<'v> {
    all: &'v Value,
    tuple: Option<&'v [Value]>,
    used: usize,
    /// Whether values may be left over: Python asks nothing to be used up that has items, but tuples.
    lenient: bool,
}

impl<'v> Source<'v> {
    fn new(all: &'v Value) -> Self {
        let tuple = match kind(all) {
            Kind::List(list) if list.is_tuple() => Some(list.items.as_slice()),
            _ => None,
        };
        let lenient = tuple.is_none() && matches!(kind(all), Kind::Dict(_) | Kind::List(_) | Kind::Undefined);
        Self { all, tuple, used: 0, lenient }
    }

    fn next(&mut self) -> Result<Value> {
        let found = match self.tuple {
            Some(values) => values.get(self.used).cloned(),
            None => (self.used == 0).then(|| self.all.clone()),
        };
        self.used += 1;
        found.ok_or_else(|| error("not enough values for the format"))
    }

    fn named(&mut self, name: &str) -> Result<Value> {
        match kind(self.all) {
            Kind::Dict(dict) => {
                dict.get(&Value::from(name)).ok_or_else(|| error(format!("the format has no value `{name}`")))
            }
            _ => Err(error("a format with names takes a dict")),
        }
    }

    fn is_used_up(&self) -> bool {
        self.lenient || self.used >= self.tuple.map_or(1, <[Value]>::len)
    }
}

/// One field, whose `%` has been read.
fn field(
    state: &State<'_, '_>,
    rest: &mut Peekable<Chars<'_>>,
    source: &mut Source<'_>,
    safe: bool,
) -> Result<String> {
    if rest.next_if_eq(&'%').is_some() {
        return Ok("%".into());
    }
    let mut field = Field { align: '>', ..Field::default() };
    let mut key = None;
    if rest.next_if_eq(&'(').is_some() {
        key = Some(read_key(rest)?);
    }
    let (mut left, mut zero) = (false, false);
    while let Some(flag) = rest.next_if(|character| matches!(character, '-' | '+' | ' ' | '#' | '0')) {
        match flag {
            '-' => left = true,
            '0' => zero = true,
            '#' => field.alternate = true,
            '+' => field.sign = '+',
            _ if field.sign != '+' => field.sign = ' ',
            _ => {}
        }
    }
    if let Some(width) = size(rest, source)? {
        left |= width < 0;
        field.width = bounded(usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX))?;
    }
    if rest.next_if_eq(&'.').is_some() {
        let precision = size(rest, source)?.unwrap_or(0).max(0);
        field.precision = Some(bounded(usize::try_from(precision).unwrap_or(usize::MAX))?);
    }
    rest.next_if(|character| matches!(character, 'h' | 'l' | 'L'));
    let letter = rest.next().ok_or_else(|| error("an incomplete format"))?;
    let value = match key {
        Some(key) => source.named(&key)?,
        None => source.next()?,
    };
    if left {
        field.align = '<';
    } else if zero && !matches!(letter, 's' | 'r' | 'a' | 'c') {
        (field.fill, field.align) = ('0', '=');
    }
    converted(state, field, letter, &value, safe)
}

fn read_key(rest: &mut Peekable<Chars<'_>>) -> Result<String> {
    let mut depth = 1;
    let mut key = String::new();
    for character in rest.by_ref() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(key);
        }
        key.push(character);
    }
    Err(error("a name in a format has no end"))
}

/// A width or precision: digits, or `*` for one of the values.
fn size(rest: &mut Peekable<Chars<'_>>, source: &mut Source<'_>) -> Result<Option<i128>> {
    if rest.next_if_eq(&'*').is_some() {
        return integer(&source.next()?, "a width in a format").map(Some);
    }
    let mut number = None;
    while let Some(digit) = rest.peek().and_then(|character| character.to_digit(10)) {
        rest.next();
        let grown = number.unwrap_or(0) * 10 + i128::from(digit);
        number = Some(grown.min(MAX_WIDTH as i128 + 1));
    }
    Ok(number)
}

fn converted(
    state: &State<'_, '_>,
    mut field: Field,
    letter: char,
    value: &Value,
    safe: bool,
) -> Result<String> {
    field.letter = letter;
    Ok(match letter {
        's' if safe => field.text(&super::text::escaped(state, value)?),
        's' => field.text(&text(state, value)?),
        'r' | 'a' => {
            let whole = repr(state, value)?;
            let whole = if letter == 'a' { ascii(&whole) } else { whole };
            field.text(&if safe { escape(&whole) } else { whole })
        }
        'c' => Field { precision: None, ..field }.text(&character(value)?),
        'd' | 'i' | 'u' => field.integer(whole(value, true)?),
        'x' | 'X' | 'o' => field.integer(whole(value, false)?),
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => field.float(float(value)?),
        other => return Err(error(format!("a format has no type `{other}`"))),
    })
}

/// A character by its code, or text of one character.
fn character(value: &Value) -> Result<String> {
    match kind(value) {
        Kind::Str(text) if text.chars().count() == 1 => Ok(text.to_owned()),
        Kind::Int(_) | Kind::Bool(_) => {
            let code = u32::try_from(integer(value, "a character")?).ok().and_then(char::from_u32);
            code.map(String::from).ok_or_else(|| error("`%c` takes the code of a character"))
        }
        _ => Err(error(format!("`%c` takes an int or one character, not a {}", name(value)))),
    }
}

fn whole(value: &Value, floats: bool) -> Result<i128> {
    match kind(value) {
        Kind::Float(float) if floats => number::truncate(float)
            .ok_or_else(|| error(format!("{} is too large a number", number::repr(float)))),
        _ => integer(value, "the value of a format"),
    }
}

fn float(value: &Value) -> Result<f64> {
    match kind(value) {
        Kind::Float(float) => Ok(float),
        _ => Ok(integer(value, "the value of a format")? as f64),
    }
}

/// Escapes what is not ASCII.
pub(super) fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character) {
            0..0x80 => out.push(character),
            code @ 0x80..0x100 => out.push_str(&format!("\\x{code:02x}")),
            code @ 0x100..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
}
