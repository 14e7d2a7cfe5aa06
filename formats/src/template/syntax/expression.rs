//! Expressions.
//!
//! Purpose: reads an expression by the grammar of Jinja2 3.1 and writes it for minijinja. Every operator but `and`, `or`,
//! `not` and the conditional becomes a filter behind its left operand (`a + b` is `a|k__sum("+", b)`), and so do
//! attributes, items and calls of methods. Filters bind closest, so that no brackets are needed around them.
//! Invariant: what is written means the same to minijinja whatever surrounds it, unless it is [`Shape::Loose`].
//! Must not know: statements.

use super::lexer::{Kind, Token};
use super::program::Writer;
use crate::template::bounds::{MAX_CHAIN, MAX_EXPRESSION_DEPTH, OPERANDS};
use crate::template::error::{Place, TemplateError};

/// The first letters of the names that this translation uses; no template may have such names.
pub(in crate::template) const RESERVED: &str = "k__";

type Result<T> = std::result::Result<T, TemplateError>;

/// What an expression is at its top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A name alone.
    Name,
    /// A call of a name alone, say a macro.
    Call,
    /// Something that filters bind to as a whole.
    Tight,
    /// `and`, `or`, `not` or a conditional: needs brackets before a filter.
    Loose,
}

/// Reads tokens and writes text.
pub(super) struct Parser<'s> {
    pub(super) source: &'s str,
    pub(super) tokens: &'s [Token],
    pub(super) next: usize,
    pub(super) writer: &'s mut Writer,
    depth: usize,
    /// The name that was written last.
    pub(super) last_name: &'s str,
    /// Whether a macro is open, and whether the template has a `varargs` or `kwargs` of its own.
    pub(super) in_macro: bool,
    pub(super) sets_rest: bool,
}

impl<'s> Parser<'s> {
    pub(super) fn new(source: &'s str, tokens: &'s [Token], writer: &'s mut Writer) -> Self {
        Self { source, tokens, next: 0, writer, depth: 0, last_name: "", in_macro: false, sets_rest: false }
    }

    // The stream of tokens.

    pub(super) fn kind(&self) -> Option<&'s Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    /// Where the next token stands.
    pub(super) fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.source.len(), |token| token.at)
    }

    pub(super) fn is_op(&self, operator: &str) -> bool {
        matches!(self.kind(), Some(Kind::Op(found)) if *found == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.kind(), Some(Kind::Name(found)) if found == name)
    }

    fn name_follows(&self, name: &str) -> bool {
        matches!(self.tokens.get(self.next + 1).map(|token| &token.kind), Some(Kind::Name(found)) if found == name)
    }

    pub(super) fn skip_op(&mut self, operator: &str) -> bool {
        let found = self.is_op(operator);
        self.next += usize::from(found);
        found
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.next += usize::from(found);
        found
    }

    pub(super) fn expect_op(&mut self, operator: &str) -> Result<()> {
        match self.skip_op(operator) {
            true => Ok(()),
            false => Err(self.error(format!("expected `{operator}`, found {}", self.found()))),
        }
    }

    /// A name of the template's own.
    pub(super) fn expect_name(&mut self) -> Result<&'s str> {
        match self.kind() {
            Some(Kind::Name(name)) if name.starts_with(RESERVED) => {
                Err(self.error(format!("names that begin with `{RESERVED}` are taken; rename `{name}`")))
            }
            Some(Kind::Name(name)) => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.error(format!("expected a name, found {}", self.found()))),
        }
    }

    /// The next token in words.
    pub(super) fn found(&self) -> String {
        match self.kind() {
            Some(Kind::Name(name)) => format!("`{name}`"),
            Some(Kind::Op(operator)) => format!("`{operator}`"),
            Some(Kind::Str(_)) => "a string".into(),
            Some(Kind::Int(_) | Kind::Float(_)) => "a number".into(),
            Some(Kind::PrintEnd | Kind::TagEnd) => "the end of the tag".into(),
            Some(Kind::Data(_) | Kind::PrintBegin | Kind::TagBegin) => "text".into(),
            None => "the end of the template".into(),
        }
    }

    pub(super) fn error(&self, what: impl Into<String>) -> TemplateError {
        self.error_at(self.at(), what)
    }

    pub(super) fn error_at(&self, at: usize, what: impl Into<String>) -> TemplateError {
        TemplateError::Syntax { place: Place::of(self.source, at), what: what.into() }
    }

    /// Counts to a bound.
    pub(super) fn count(&self, count: &mut usize, most: usize, what: &str) -> Result<()> {
        *count += 1;
        match *count > most {
            true => Err(self.error(format!("more than {most} {what}; cut it into several with `set`"))),
            false => Ok(()),
        }
    }

    /// Notes the place of the next token and writes.
    pub(super) fn write(&mut self, text: &str) {
        self.writer.mark(self.at());
        self.writer.push(text);
    }

    // The grammar, from what binds least to what binds most.

    /// An expression with or without conditionals.
    pub(super) fn expression(&mut self, conditional: bool) -> Result<Shape> {
        self.depth += 1;
        if self.depth > MAX_EXPRESSION_DEPTH {
            return Err(self.error("the expression nests too deeply; cut it into several with `set`"));
        }
        let shape = match conditional {
            true => self.conditional()?,
            false => self.or()?,
        };
        self.depth -= 1;
        Ok(shape)
    }

    /// An expression, in brackets where a filter could not follow it.
    pub(super) fn tight(&mut self, conditional: bool) -> Result<Shape> {
        let start = self.writer.here();
        let shape = self.expression(conditional)?;
        Ok(self.tightened(start, shape))
    }

    pub(super) fn tightened(&mut self, start: usize, shape: Shape) -> Shape {
        if shape != Shape::Loose {
            return shape;
        }
        self.writer.insert(start, "(");
        self.writer.push(")");
        Shape::Tight
    }

    fn conditional(&mut self) -> Result<Shape> {
        let mut shape = self.or()?;
        let mut count = 0;
        while self.is_name("if") {
            self.count(&mut count, MAX_CHAIN, "conditionals")?;
            self.write(" if ");
            self.next += 1;
            self.or()?;
            if self.is_name("else") {
                self.write(" else ");
                self.next += 1;
                self.expression(true)?;
            }
            shape = Shape::Loose;
        }
        Ok(shape)
    }

    fn or(&mut self) -> Result<Shape> {
        self.chain("or", Self::and)
    }

    fn and(&mut self) -> Result<Shape> {
        self.chain("and", Self::not)
    }

    fn chain(&mut self, word: &str, operand: fn(&mut Self) -> Result<Shape>) -> Result<Shape> {
        let mut shape = operand(self)?;
        let mut count = 0;
        while self.is_name(word) {
            self.count(&mut count, MAX_CHAIN, "operands")?;
            self.write(" ");
            self.writer.push(word);
            self.writer.push(" ");
            self.next += 1;
            operand(self)?;
            shape = Shape::Loose;
        }
        Ok(shape)
    }

    fn not(&mut self) -> Result<Shape> {
        let mut count = 0;
        while self.is_name("not") {
            self.count(&mut count, MAX_CHAIN, "`not`s")?;
            self.write("not ");
            self.next += 1;
        }
        let shape = self.compare()?;
        Ok(if count > 0 { Shape::Loose } else { shape })
    }

    fn compare(&mut self) -> Result<Shape> {
        self.operands("k__compare", Self::comparison, Self::sum)
    }

    fn comparison(&mut self) -> Option<(&'static str, usize)> {
        match self.kind() {
            Some(Kind::Op(operator @ ("==" | "!=" | "<" | "<=" | ">" | ">="))) => Some((operator, 1)),
            Some(Kind::Name(name)) if name == "in" => Some(("in", 1)),
            Some(Kind::Name(name)) if name == "not" && self.name_follows("in") => Some(("not in", 2)),
            _ => None,
        }
    }

    fn sum(&mut self) -> Result<Shape> {
        let operator = |parser: &mut Self| parser.operator(&["+", "-"]);
        self.operands("k__sum", operator, Self::concat)
    }

    fn concat(&mut self) -> Result<Shape> {
        let operator = |parser: &mut Self| parser.operator(&["~"]);
        self.operands("k__concat", operator, Self::product)
    }

    fn product(&mut self) -> Result<Shape> {
        let operator = |parser: &mut Self| parser.operator(&["*", "/", "//", "%"]);
        self.operands("k__product", operator, Self::power)
    }

    fn power(&mut self) -> Result<Shape> {
        let operator = |parser: &mut Self| parser.operator(&["**"]);
        self.operands("k__power", operator, |parser| parser.unary(true))
    }

    fn operator(&self, operators: &[&'static str]) -> Option<(&'static str, usize)> {
        operators.iter().find(|operator| self.is_op(operator)).map(|operator| (*operator, 1))
    }

    /// Operands of the same precedence: `a|filter("+", b, "-", c)`.
    fn operands(
        &mut self,
        filter: &str,
        mut operator: impl FnMut(&mut Self) -> Option<(&'static str, usize)>,
        operand: fn(&mut Self) -> Result<Shape>,
    ) -> Result<Shape> {
        let mut shape = operand(self)?;
        let (mut count, mut calls) = (0, 0);
        while let Some((name, length)) = operator(self) {
            if count % OPERANDS == 0 {
                self.count(&mut calls, MAX_CHAIN, "hundreds of operands")?;
                self.writer.push(if count > 0 { ")" } else { "" });
                self.write("|");
                self.writer.push(filter);
                self.writer.push("(");
            } else {
                self.writer.push(", ");
            }
            self.writer.string(name);
            self.writer.push(", ");
            self.next += length;
            operand(self)?;
            count += 1;
            shape = Shape::Tight;
        }
        if count > 0 {
            self.writer.push(")");
        }
        Ok(shape)
    }

    fn unary(&mut self, filters: bool) -> Result<Shape> {
        let mut signs = Vec::new();
        let mut count = 0;
        while let Some((sign, _)) = self.operator(&["-", "+"]) {
            self.count(&mut count, MAX_CHAIN, "signs")?;
            signs.push((sign, self.at()));
            self.next += 1;
        }
        let mut shape = self.primary()?;
        let mut links = 0;
        shape = self.postfix(shape, &mut links)?;
        for (sign, at) in signs.iter().rev() {
            self.writer.mark(*at);
            self.writer.push(if *sign == "-" { "|k__negative" } else { "|k__positive" });
            shape = Shape::Tight;
        }
        if filters { self.filters(shape, &mut links) } else { Ok(shape) }
    }

    pub(super) fn primary(&mut self) -> Result<Shape> {
        let at = self.at();
        match self.kind() {
            Some(Kind::Name(_)) => {
                let name = self.expect_name()?;
                if self.in_macro && matches!(name, "varargs" | "kwargs") && !self.sets_rest {
                    return Err(self
                        .error_at(at, format!("`{name}` of a macro is not supported; give it parameters")));
                }
                self.writer.mark(at);
                self.writer.push(name);
                self.last_name = name;
                let constant = matches!(name, "true" | "True" | "false" | "False" | "none" | "None");
                return Ok(if constant { Shape::Tight } else { Shape::Name });
            }
            Some(Kind::Str(_)) => {
                let mut joined = String::new();
                while let Some(Kind::Str(text)) = self.kind() {
                    joined.push_str(text);
                    self.next += 1;
                }
                self.writer.mark(at);
                self.writer.string(&joined);
            }
            Some(Kind::Int(value)) => {
                self.write(&value.to_string());
                self.next += 1;
            }
            Some(Kind::Float(value)) => {
                self.write(&format!("{value:?}"));
                self.next += 1;
            }
            Some(Kind::Op("(")) => return self.brackets(),
            Some(Kind::Op("[")) => self.list()?,
            Some(Kind::Op("{")) => self.dict()?,
            _ => return Err(self.error(format!("expected an expression, found {}", self.found()))),
        }
        Ok(Shape::Tight)
    }
}
