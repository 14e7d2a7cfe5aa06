//! What follows a value: attributes, items, calls, filters and tests.
//!
//! Purpose: the second half of the grammar of expressions; each link of the chain becomes a filter.
//! Invariant: a call of a plain name stays a call, for that is how minijinja finds macros and recursive loops.
//! Must not know: statements.

use super::expression::{Parser, Shape};
use super::lexer::Kind;
use crate::template::bounds::{MAX_CHAIN, MAX_ITEMS};
use crate::template::error::TemplateError;

type Result<T> = std::result::Result<T, TemplateError>;

impl Parser<'_> {
    fn link(&self, links: &mut usize) -> Result<()> {
        *links += 1;
        match *links > MAX_CHAIN {
            true => {
                Err(self
                    .error(format!("more than {MAX_CHAIN} links in a chain; cut it into several with `set`")))
            }
            false => Ok(()),
        }
    }

    pub(super) fn postfix(&mut self, mut shape: Shape, links: &mut usize) -> Result<Shape> {
        loop {
            match self.kind() {
                Some(Kind::Op(".")) => {
                    self.link(links)?;
                    self.attribute()?;
                    shape = Shape::Tight;
                }
                Some(Kind::Op("[")) => {
                    self.link(links)?;
                    self.subscript()?;
                    shape = Shape::Tight;
                }
                Some(Kind::Op("(")) => {
                    self.link(links)?;
                    shape = self.call(shape)?;
                }
                _ => return Ok(shape),
            }
        }
    }

    /// `.name`, `.name(..)` or `.0`.
    fn attribute(&mut self) -> Result<()> {
        let at = self.at();
        self.expect_op(".")?;
        self.writer.mark(at);
        match self.kind() {
            Some(Kind::Name(name)) => {
                self.next += 1;
                let is_call = self.is_op("(");
                self.writer.push(if is_call { "|k__call(" } else { "|k__attribute(" });
                self.writer.string(name);
                if is_call {
                    self.arguments(true, "")?;
                }
                self.writer.push(")");
                Ok(())
            }
            Some(Kind::Int(index)) => {
                self.next += 1;
                self.writer.push(&format!("|k__item({index})"));
                Ok(())
            }
            _ => Err(self.error(format!("expected a name or a number, found {}", self.found()))),
        }
    }

    /// `[index]`, `[start:stop:step]` or `[a, b]`, which is a tuple.
    fn subscript(&mut self) -> Result<()> {
        let is_slice = self.is_slice();
        self.write(if is_slice { "|k__slice(" } else { "|k__item(" });
        self.expect_op("[")?;
        if is_slice {
            self.bound()?;
            for _ in 0..2 {
                self.writer.push(", ");
                match self.skip_op(":") {
                    true => self.bound()?,
                    false => self.writer.push("none"),
                }
            }
        } else {
            self.items()?;
        }
        self.expect_op("]")?;
        self.writer.push(")");
        Ok(())
    }

    /// Whether a colon stands in the brackets that begin here.
    fn is_slice(&self) -> bool {
        let mut depth = 0;
        for token in &self.tokens[self.next..] {
            match token.kind {
                Kind::Op("(" | "[" | "{") => depth += 1,
                Kind::Op(")" | "]" | "}") if depth == 1 => return false,
                Kind::Op(")" | "]" | "}") => depth -= 1,
                Kind::Op(":") if depth == 1 => return true,
                _ => {}
            }
        }
        false
    }

    /// A bound of a slice, which may be missing.
    fn bound(&mut self) -> Result<()> {
        match self.is_op(":") || self.is_op("]") {
            true => self.writer.push("none"),
            false => self.expression(true).map(drop)?,
        }
        Ok(())
    }

    fn items(&mut self) -> Result<()> {
        if self.is_op("]") {
            self.writer.push("()|k__tuple");
            return Ok(());
        }
        let start = self.writer.here();
        self.expression(true)?;
        let mut count = 1;
        while self.skip_op(",") {
            count += 1;
            if count > MAX_ITEMS {
                return Err(self.error(format!("more than {MAX_ITEMS} items")));
            }
            self.writer.push(", ");
            self.expression(true)?;
        }
        if count > 1 {
            self.writer.insert(start, "(");
            self.writer.push(")|k__tuple");
        }
        Ok(())
    }

    fn call(&mut self, shape: Shape) -> Result<Shape> {
        if shape != Shape::Name {
            self.write("|k__invoke(");
            self.arguments(false, "")?;
            self.writer.push(")");
            return Ok(Shape::Tight);
        }
        // A macro must know an undefined argument from none; `loop` takes what it iterates over.
        let end = if self.last_name == "loop" { "|k__iterate" } else { "|k__given" };
        self.write("(");
        self.arguments(false, end)?;
        self.writer.push(")");
        Ok(Shape::Call)
    }

    /// The arguments of a call with their brackets, which are not written. Behind each value `end` is written.
    fn arguments(&mut self, after_another: bool, end: &str) -> Result<()> {
        self.expect_op("(")?;
        let (mut count, mut named, mut list, mut dict) = (0, false, false, false);
        while !self.is_op(")") {
            if count > 0 {
                self.expect_op(",")?;
                if self.is_op(")") {
                    break;
                }
            }
            count += 1;
            if count > MAX_ITEMS {
                return Err(self.error(format!("more than {MAX_ITEMS} arguments")));
            }
            if count > 1 || after_another {
                self.writer.push(", ");
            }
            let follows = self.tokens.get(self.next + 1).map(|token| &token.kind);
            let is_named = matches!((self.kind(), follows), (Some(Kind::Name(_)), Some(Kind::Op("="))));
            let end = match self.kind() {
                Some(Kind::Op("*")) => "|k__iterate",
                Some(Kind::Op("**")) => "|k__named",
                _ => end,
            };
            let allowed = if self.is_op("*") {
                self.write("*");
                self.next += 1;
                !std::mem::replace(&mut list, true) && !dict
            } else if self.is_op("**") {
                self.write("**");
                self.next += 1;
                !std::mem::replace(&mut dict, true)
            } else if is_named {
                let name = self.expect_name()?;
                self.next += 1;
                self.writer.push(name);
                self.writer.push("=");
                named = true;
                !dict
            } else {
                !named && !list && !dict
            };
            if !allowed {
                return Err(self.error("arguments come in the order: values, named ones, `*list`, `**dict`"));
            }
            let start = self.writer.here();
            let shape = self.expression(true)?;
            self.tightened(start, shape);
            self.writer.push(end);
        }
        self.expect_op(")")
    }

    pub(super) fn filters(&mut self, mut shape: Shape, links: &mut usize) -> Result<Shape> {
        loop {
            if self.is_op("|") {
                self.link(links)?;
                self.write("|");
                self.next += 1;
                self.filter()?;
                shape = Shape::Tight;
            } else if self.is_name("is") {
                self.link(links)?;
                self.test()?;
                shape = Shape::Tight;
            } else if self.is_op("(") {
                self.link(links)?;
                shape = self.call(shape)?;
            } else {
                return Ok(shape);
            }
        }
    }

    /// The name of a filter and its arguments.
    pub(super) fn filter(&mut self) -> Result<()> {
        let name = self.dotted()?;
        self.writer.push(&name);
        if self.is_op("(") {
            self.writer.push("(");
            self.arguments(false, "")?;
            self.writer.push(")");
        }
        Ok(())
    }

    fn dotted(&mut self) -> Result<String> {
        let mut name = self.expect_name()?.to_owned();
        while self.skip_op(".") {
            name.push('.');
            name.push_str(self.expect_name()?);
        }
        Ok(name)
    }

    /// `is name`, `is not name`, `is name argument`, `is name(arguments)`.
    fn test(&mut self) -> Result<()> {
        self.write("|k__is(");
        self.next += 1;
        let negated = self.skip_name("not");
        let name = self.dotted()?;
        self.writer.string(&name);
        self.writer.push(if negated { ", true" } else { ", false" });
        let is_argument = match self.kind() {
            Some(Kind::Name(word)) => !matches!(word.as_str(), "else" | "or" | "and"),
            Some(Kind::Str(_) | Kind::Int(_) | Kind::Float(_) | Kind::Op("[" | "{")) => true,
            _ => false,
        };
        if self.is_op("(") {
            self.arguments(true, "")?;
        } else if self.is_name("is") {
            return Err(self.error("tests do not chain; write `and` between them"));
        } else if is_argument {
            self.writer.push(", ");
            let shape = self.primary()?;
            self.postfix(shape, &mut 0)?;
        }
        self.writer.push(")");
        Ok(())
    }
}
