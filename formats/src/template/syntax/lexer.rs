//! Template source into tokens.
//!
//! Purpose: Jinja2's lexer with `trim_blocks`, `lstrip_blocks` and without `keep_trailing_newline`: data, tags, and what
//! stands in tags. Comments and raw blocks end here.
//! Invariant: every token has a place in the source, whose newlines are `\n`.
//! Must not know: the grammar.

use super::literal;
use crate::template::error::{Place, TemplateError};

/// A token and where it begins in the source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Text outside of tags.
    Data(String),
    /// `{{`
    PrintBegin,
    /// `}}`
    PrintEnd,
    /// `{%`
    TagBegin,
    /// `%}`
    TagEnd,
    /// A name or keyword.
    Name(String),
    /// A string literal, unescaped.
    Str(String),
    /// An integer literal.
    Int(i128),
    /// A float literal.
    Float(f64),
    /// An operator or a bracket.
    Op(&'static str),
}

/// White space as Python's `str.isspace` and its `\s` have it.
pub(in crate::template) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// The source as Jinja2 reads it: every newline is `\n`, and one at the end is dropped.
pub(super) fn normalize(source: &str) -> String {
    let mut text = source.replace("\r\n", "\n").replace('\r', "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

/// The tokens of a source whose newlines are normal.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { source, at: 0, line_starting: true, tokens: Vec::new() };
    while lexer.at < source.len() {
        lexer.root()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// Whether the last match ended in a newline.
    line_starting: bool,
    tokens: Vec<Token>,
}

/// The longest come first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: Kind, at: usize) {
        self.tokens.push(Token { kind, at });
    }

    fn error(&self, at: usize, what: impl Into<String>) -> TemplateError {
        TemplateError::Syntax { place: Place::of(self.source, at), what: what.into() }
    }

    /// Moves to `to`.
    fn advance(&mut self, to: usize) {
        self.line_starting = self.source[..to].ends_with('\n');
        self.at = to;
    }

    /// Text up to the next tag, and that tag.
    fn root(&mut self) -> Result<(), TemplateError> {
        let begin = self.at;
        let bytes = self.source.as_bytes();
        let is_tag = |at: usize| bytes[at] == b'{' && matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#'));
        let Some(tag) = (begin..bytes.len()).find(|&at| is_tag(at)) else {
            self.push(Kind::Data(self.rest().to_owned()), begin);
            self.advance(self.source.len());
            return Ok(());
        };
        let sign = bytes.get(tag + 2).copied().filter(|sign| matches!(sign, b'-' | b'+'));
        let inner = tag + 2 + usize::from(sign.is_some());
        self.data(begin, tag, sign, bytes[tag + 1] != b'{');
        match bytes[tag + 1] {
            b'{' => self.tag(tag, inner, Kind::PrintBegin, Kind::PrintEnd),
            b'#' => self.comment(tag, inner),
            _ => match raw_begin(&self.source[inner..]) {
                Some(length) => self.raw(tag, inner + length),
                None => self.tag(tag, inner, Kind::TagBegin, Kind::TagEnd),
            },
        }
    }

    /// The text before a tag, without the white space that the tag takes.
    fn data(&mut self, begin: usize, end: usize, sign: Option<u8>, strips_line: bool) {
        let text = &self.source[begin..end];
        let kept = match sign {
            Some(b'-') => text.trim_end_matches(is_space),
            None if strips_line => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                let blank = !text[line..].is_empty() && text[line..].chars().all(is_space);
                if (line > 0 || self.line_starting) && blank { &text[..line] } else { text }
            }
            _ => text,
        };
        if !kept.is_empty() {
            self.push(Kind::Data(kept.to_owned()), begin);
        }
    }

    /// The end of a tag at the current place: `+%}`, `-%}` with the white space behind, `%}` with a newline behind.
    fn end_of(&self, mark: &str, plus_and_newline: bool) -> Option<usize> {
        let rest = self.rest();
        if let Some(after) = rest.strip_prefix('-').and_then(|rest| rest.strip_prefix(mark)) {
            return Some(self.source.len() - after.trim_start_matches(is_space).len());
        }
        if let Some(after) = rest.strip_prefix(mark) {
            let newline = plus_and_newline && after.starts_with('\n');
            return Some(self.at + mark.len() + usize::from(newline));
        }
        let plus = plus_and_newline && rest.strip_prefix('+').is_some_and(|rest| rest.starts_with(mark));
        plus.then(|| self.at + 1 + mark.len())
    }

    fn comment(&mut self, tag: usize, inner: usize) -> Result<(), TemplateError> {
        let mut from = inner;
        while let Some(found) = self.source[from..].find("#}").map(|at| from + at) {
            let signed = found > inner && matches!(self.source.as_bytes()[found - 1], b'-' | b'+');
            self.at = found - usize::from(signed);
            if let Some(end) = self.end_of("#}", true) {
                self.advance(end);
                return Ok(());
            }
            from = found + 2;
        }
        Err(self.error(tag, "the comment has no end; write `#}` behind it"))
    }

    /// A raw block whose text begins at `inner`.
    fn raw(&mut self, tag: usize, inner: usize) -> Result<(), TemplateError> {
        self.line_starting = self.source[..inner].ends_with('\n');
        let mut from = inner;
        while let Some(found) = self.source[from..].find("{%").map(|at| from + at) {
            let sign =
                self.source.as_bytes().get(found + 2).copied().filter(|sign| matches!(sign, b'-' | b'+'));
            let name = found + 2 + usize::from(sign.is_some());
            let after = self.source[name..].trim_start_matches(is_space);
            if let Some(after) = after.strip_prefix("endraw") {
                self.at = self.source.len() - after.trim_start_matches(is_space).len();
                if let Some(end) = self.end_of("%}", true) {
                    self.data(inner, found, sign, true);
                    self.advance(end);
                    return Ok(());
                }
            }
            from = found + 2;
        }
        Err(self.error(tag, "the raw block has no end; write `{% endraw %}` behind it"))
    }

    /// What stands in a tag, up to its end.
    fn tag(&mut self, tag: usize, inner: usize, begin: Kind, end: Kind) -> Result<(), TemplateError> {
        self.push(begin, tag);
        self.advance(inner);
        let is_print = end == Kind::PrintEnd;
        let mut open: Vec<&'static str> = Vec::new();
        while self.at < self.source.len() {
            let mark = if is_print { "}}" } else { "%}" };
            if let Some(to) = self.end_of(mark, !is_print).filter(|_| open.is_empty()) {
                self.push(end, self.at);
                self.advance(to);
                return Ok(());
            }
            let first = self.rest().chars().next().unwrap_or_default();
            if is_space(first) {
                let blank = self.rest().len() - self.rest().trim_start_matches(is_space).len();
                self.advance(self.at + blank);
            } else {
                self.token(first, &mut open)?;
            }
        }
        Err(self.error(tag, "the tag has no end; write `}}` or `%}` behind it"))
    }

    fn token(&mut self, first: char, open: &mut Vec<&'static str>) -> Result<(), TemplateError> {
        let at = self.at;
        let (kind, length) = match first {
            '0'..='9' => {
                let after_dot = self.source[..at].ends_with('.');
                literal::number(self.rest(), after_dot).map_err(|what| self.error(at, what))?
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
                let length = self.rest().len() - self.rest().trim_start_matches(is_part).len();
                (Kind::Name(self.rest()[..length].to_owned()), length)
            }
            '\'' | '"' => literal::string(self.rest()).map_err(|what| self.error(at, what))?,
            _ => {
                let found = OPERATORS.into_iter().find(|operator| self.rest().starts_with(operator));
                let operator = found.ok_or_else(|| {
                    self.error(
                        at,
                        format!("the character `{first}` has no meaning here; names are of ASCII letters"),
                    )
                })?;
                self.balance(operator, open)?;
                (Kind::Op(operator), operator.len())
            }
        };
        self.push(kind, at);
        self.advance(at + length);
        Ok(())
    }

    /// Brackets close in the order in which they open.
    fn balance(&self, operator: &'static str, open: &mut Vec<&'static str>) -> Result<(), TemplateError> {
        match operator {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" => match open.pop() {
                Some(expected) if expected == operator => {}
                Some(expected) => {
                    return Err(
                        self.error(self.at, format!("unexpected `{operator}`, expected `{expected}`"))
                    );
                }
                None => return Err(self.error(self.at, format!("`{operator}` closes nothing"))),
            },
            _ => {}
        }
        Ok(())
    }
}

/// The length of `raw %}` at the beginning of a tag.
fn raw_begin(rest: &str) -> Option<usize> {
    let after = rest.trim_start_matches(is_space).strip_prefix("raw")?.trim_start_matches(is_space);
    if let Some(after) = after.strip_prefix("-%}") {
        return Some(rest.len() - after.trim_start_matches(is_space).len());
    }
    after.strip_prefix("%}").map(|after| rest.len() - after.len())
}
