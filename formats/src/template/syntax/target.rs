//! What is set: names, attributes of namespaces, and the parameters of macros.
//!
//! Purpose: the grammar of the left sides.
//! Invariant: a name that means something to the engine cannot be set.
//! Must not know: statements.

use super::expression::Parser;
use super::lexer::Kind;
use crate::template::bounds::MAX_ITEMS;
use crate::template::error::TemplateError;

type Result<T> = std::result::Result<T, TemplateError>;

impl Parser<'_> {
    /// The targets of an assignment; says whether one is the attribute of a namespace.
    pub(super) fn targets(&mut self, end: Option<&str>, namespaces: bool) -> Result<bool> {
        let (mut count, mut has_attribute) = (0, false);
        while end.is_none_or(|name| !self.is_name(name)) {
            count += 1;
            if count > MAX_ITEMS {
                return Err(self.error(format!("more than {MAX_ITEMS} targets")));
            }
            if self.is_op("(") {
                self.write("(");
                self.next += 1;
                self.parenthesized(namespaces)?;
            } else {
                has_attribute |= self.target(namespaces)?;
            }
            if !self.is_op(",") {
                break;
            }
            self.next += 1;
            self.writer.push(", ");
            if matches!(self.kind(), Some(Kind::Op("=" | ")") | Kind::TagEnd)) {
                break;
            }
        }
        match count {
            0 => Err(self.error(format!("expected a name to set, found {}", self.found()))),
            _ => Ok(has_attribute),
        }
    }

    /// Targets in brackets, which hold plain names: `for (a, b), c in ..`.
    fn parenthesized(&mut self, namespaces: bool) -> Result<()> {
        loop {
            self.target(namespaces)?;
            if self.skip_op(")") {
                self.writer.push(")");
                return Ok(());
            }
            self.expect_op(",")?;
            self.writer.push(", ");
            if self.skip_op(")") {
                self.writer.push(")");
                return Ok(());
            }
        }
    }

    pub(super) fn target(&mut self, namespaces: bool) -> Result<bool> {
        let at = self.at();
        let name = self.expect_name()?;
        if matches!(name, "true" | "True" | "false" | "False" | "none" | "None" | "loop" | "self" | "super") {
            return Err(self.error_at(at, format!("`{name}` cannot be set; take another name")));
        }
        self.sets_rest |= matches!(name, "varargs" | "kwargs");
        self.writer.mark(at);
        self.writer.push(name);
        if !namespaces || !self.skip_op(".") {
            return Ok(false);
        }
        let attribute = self.expect_name()?;
        if attribute.starts_with('_') {
            let what = "an attribute of a namespace may not begin with an underscore; rename it";
            return Err(self.error_at(at, what));
        }
        self.writer.push(".");
        self.writer.push(attribute);
        Ok(true)
    }

    pub(super) fn signature(&mut self) -> Result<()> {
        self.expect_op("(")?;
        self.writer.push("(");
        let (mut count, mut defaults) = (0, false);
        while !self.is_op(")") {
            if count > 0 {
                self.expect_op(",")?;
                self.writer.push(", ");
            }
            count += 1;
            if count > MAX_ITEMS {
                return Err(self.error(format!("more than {MAX_ITEMS} parameters")));
            }
            self.target(false)?;
            if self.skip_op("=") {
                self.writer.push("=");
                let start = self.writer.here();
                let shape = self.expression(true)?;
                self.tightened(start, shape);
                defaults = true;
            } else if defaults {
                return Err(self.error("a parameter without a default follows one with a default"));
            }
        }
        self.expect_op(")")?;
        self.writer.push(")");
        Ok(())
    }
}
