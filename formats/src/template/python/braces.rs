//! `text.format(..)`.
//!
//! Purpose: the replacement fields of `str.format`: names, attributes and items, `!s`, `!r` and `!a`, and the format
//! specification with nested fields.
//! Invariant: attributes and items are looked up as a template does; fields nest two deep, as in Python.
//! Must not know: filters.

use minijinja::Value;

use super::access;
use super::arguments::Arguments;
use super::field::{Field, MAX_WIDTH, bounded};
use super::kind::{Kind, kind, name};
use super::object::pay_bytes;
use super::percent::ascii;
use super::text::{escape, repr, text};
use super::{Result, State, error};

/// `pattern.format(..)`; if `safe`, values are escaped.
pub(in crate::template) fn format(
    state: &mut State<'_, '_>,
    pattern: &str,
    arguments: &Arguments<'_>,
    safe: bool,
) -> Result<String> {
    let mut formatter = Formatter { arguments, next: Some(0), safe };
    formatter.fill(state, pattern, 2)
}

struct Formatter<'c> {
    arguments: &'c Arguments<'c>,
    /// The next automatic number; nothing once a number was given.
    next: Option<usize>,
    safe: bool,
}

impl Formatter<'_> {
    fn fill(&mut self, state: &mut State<'_, '_>, pattern: &str, depth: usize) -> Result<String> {
        if depth == 0 {
            return Err(error("fields of a format nest too deeply"));
        }
        pay_bytes(state, pattern.len())?;
        let mut out = String::new();
        let mut rest = pattern;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
            } else if brace == "}" {
                return Err(error("a single `}` in a format; write `}}`"));
            } else {
                let end = end_of_field(rest).ok_or_else(|| error("a single `{` in a format; write `{{`"))?;
                let field = self.field(state, &rest[..end], depth)?;
                pay_bytes(state, field.len() + 64)?;
                out.push_str(&field);
                rest = &rest[end + 1..];
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// One field: `name!conversion:specification`.
    fn field(&mut self, state: &mut State<'_, '_>, field: &str, depth: usize) -> Result<String> {
        let mut brackets = 0;
        let split = field.find(|character| {
            brackets = match character {
                '[' => 1,
                ']' => 0,
                _ => brackets,
            };
            brackets == 0 && matches!(character, '!' | ':')
        });
        let (path, rest) = field.split_at(split.unwrap_or(field.len()));
        let value = self.value(state, path)?;
        let (conversion, rest) = match rest.strip_prefix('!') {
            Some(rest) => {
                let mut characters = rest.chars();
                (characters.next(), characters.as_str())
            }
            None => (None, rest),
        };
        let specification = match rest.strip_prefix(':') {
            Some(specification) => self.fill(state, specification, depth - 1)?,
            None if rest.is_empty() => String::new(),
            None => return Err(error("`:` must follow the conversion of a format")),
        };
        let value = match conversion {
            None => value,
            Some('s') => Value::from(text(state, &value)?.as_ref()),
            Some('r') => Value::from(repr(state, &value)?),
            Some('a') => Value::from(ascii(&repr(state, &value)?)),
            Some(other) => return Err(error(format!("a format has no conversion `!{other}`"))),
        };
        let out = formatted(state, &value, &specification)?;
        Ok(if self.safe && !value.is_safe() { escape(&out) } else { out })
    }

    /// The value of `name.attribute[item]..`.
    fn value(&mut self, state: &mut State<'_, '_>, path: &str) -> Result<Value> {
        let first = path.find(['.', '[']).unwrap_or(path.len());
        let (first, mut rest) = path.split_at(first);
        let mut value = self.first(first)?;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                value = access::attribute(state, &value, &after[..end])?;
                rest = &after[end..];
            } else if let Some(after) = rest.strip_prefix('[') {
                let end = after.find(']').ok_or_else(|| error("`]` is missing in a format"))?;
                let key =
                    after[..end].parse::<u32>().map_or_else(|_| Value::from(&after[..end]), Value::from);
                value = access::item(state, &value, &key)?;
                rest = &after[end + 1..];
            } else {
                return Err(error("only `.` or `[` may follow `]` in a format"));
            }
        }
        Ok(value)
    }

    fn first(&mut self, name: &str) -> Result<Value> {
        let index = match (name, self.next) {
            ("", Some(index)) => {
                self.next = Some(index + 1);
                index
            }
            ("", None) => return Err(error("a format numbers its fields either all or none")),
            _ => match name.parse::<usize>() {
                Ok(_) if self.next.is_some_and(|next| next > 0) => {
                    return Err(error("a format numbers its fields either all or none"));
                }
                Ok(index) => {
                    self.next = None;
                    index
                }
                Err(_) => {
                    let found = self.arguments.get(name);
                    return found.ok_or_else(|| error(format!("the format has no value `{name}`")));
                }
            },
        };
        let found = self.arguments.values.get(index).cloned();
        found.ok_or_else(|| error(format!("the format has no value of the number {index}")))
    }
}

/// The end of a field that begins here, past nested fields.
fn end_of_field(rest: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, character) in rest.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// `format(value, specification)`.
fn formatted(state: &State<'_, '_>, value: &Value, specification: &str) -> Result<String> {
    if specification.is_empty() {
        return Ok(text(state, value)?.into_owned());
    }
    let mut field = parse(specification)?;
    if field.zero && !matches!(kind(value), Kind::Str(_)) {
        field.align = '=';
    }
    let wrong = || error(format!("a {} takes no format `{specification}`", name(value)));
    match (kind(value), field.letter) {
        (_, 'n' | 'c') | (Kind::Int(_) | Kind::Bool(_), 'x' | 'X' | 'o' | 'b')
            if field.grouping == Some(',')
                || (field.grouping.is_some() && matches!(field.letter, 'n' | 'c')) =>
        {
            Err(wrong())
        }
        (Kind::Str(text), ' ' | 's')
            if field.align != '=' && field.sign == '\0' && field.grouping.is_none() =>
        {
            Ok(field.text(text))
        }
        (Kind::Bool(truth), ' ') => Ok(field.text(if truth { "True" } else { "False" })),
        (Kind::Bool(_) | Kind::Int(_), 'c') if field.precision.is_none() && field.sign == '\0' => {
            let code = super::kind::integer(value, "a character")?;
            let found = u32::try_from(code).ok().and_then(char::from_u32).ok_or_else(wrong)?;
            Ok(Field { align: if field.align == ' ' { '>' } else { field.align }, ..field }
                .text(&found.to_string()))
        }
        (Kind::Bool(_) | Kind::Int(_), ' ' | 'd' | 'n' | 'x' | 'X' | 'o' | 'b')
            if field.precision.is_none() =>
        {
            Ok(field.integer(super::kind::integer(value, "a number")?))
        }
        (Kind::Bool(_) | Kind::Int(_), 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => {
            Ok(field.float(super::kind::integer(value, "a number")? as f64))
        }
        (Kind::Float(float), ' ' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%') => Ok(field.float(float)),
        _ => Err(wrong()),
    }
}

/// Takes the next character, if it is one of those that are asked for.
type Take<'a> = dyn FnMut(&dyn Fn(char) -> bool) -> Option<char> + 'a;

/// `[[fill]align][sign][#][0][width][grouping][.precision][type]`
fn parse(specification: &str) -> Result<Field> {
    let mut field = Field::default();
    let characters: Vec<char> = specification.chars().take(MAX_WIDTH).collect();
    let is_align =
        |at: usize| characters.get(at).is_some_and(|character| matches!(character, '<' | '>' | '^' | '='));
    let mut at = 0;
    let has_fill = is_align(1);
    if has_fill {
        (field.fill, field.align, at) = (characters[0], characters[1], 2);
    } else if is_align(0) {
        (field.align, at) = (characters[0], 1);
    }
    let mut take = |allowed: &dyn Fn(char) -> bool| {
        let found = characters.get(at).copied().filter(|character| allowed(*character));
        at += usize::from(found.is_some());
        found
    };
    field.sign = take(&|character| matches!(character, '+' | '-' | ' ')).unwrap_or('\0');
    field.alternate = take(&|character| character == '#').is_some();
    if take(&|character| character == '0').is_some() {
        field.fill = if has_fill { field.fill } else { '0' };
        field.zero = field.align == ' ';
    }
    let number = |take: &mut Take<'_>| {
        let mut found = None;
        while let Some(digit) = take(&|character| character.is_ascii_digit()) {
            let digit = digit.to_digit(10).unwrap_or_default() as usize;
            found = Some((found.unwrap_or(0usize) * 10 + digit).min(MAX_WIDTH + 1));
        }
        found
    };
    field.width = bounded(number(&mut take).unwrap_or(0))?;
    field.grouping = take(&|character| matches!(character, ',' | '_'));
    if take(&|character| character == '.').is_some() {
        let precision = number(&mut take).ok_or_else(|| error("a format misses its precision"))?;
        field.precision = Some(bounded(precision)?);
    }
    field.letter = take(&|character| character.is_ascii_alphabetic() || character == '%').unwrap_or(' ');
    match at == specification.chars().count() {
        true => Ok(field),
        false => Err(error(format!("`{specification}` is no format"))),
    }
}
