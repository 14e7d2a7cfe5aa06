//! Brackets: tuples, lists and dicts.
//!
//! Purpose: the part of the grammar of expressions that brackets enclose.
//! Invariant: brackets that only group are left out, unless what they enclose is [`Shape::Loose`].
//! Must not know: statements.

use super::expression::{Parser, Shape};
use super::lexer::Kind;
use crate::template::bounds::MAX_ITEMS;
use crate::template::error::TemplateError;

type Result<T> = std::result::Result<T, TemplateError>;

impl Parser<'_> {
    pub(super) fn brackets(&mut self) -> Result<Shape> {
        self.expect_op("(")?;
        let start = self.writer.here();
        let shape = self.tuple(true, true, None)?;
        self.expect_op(")")?;
        // A name in brackets is a value like any other: a call of it is the call of a value.
        Ok(match self.tightened(start, shape) {
            Shape::Loose | Shape::Tight => Shape::Tight,
            shape => shape,
        })
    }

    /// An expression, or a tuple where there are commas.
    pub(super) fn tuple(&mut self, empty: bool, conditional: bool, end: Option<&str>) -> Result<Shape> {
        let start = self.writer.here();
        let mut count = 0;
        let mut shape = Shape::Tight;
        let mut comma = false;
        while !self.is_tuple_end(end) {
            self.count(&mut count, MAX_ITEMS, "items")?;
            shape = self.expression(conditional)?;
            if !self.is_op(",") {
                break;
            }
            comma = true;
            self.write(", ");
            self.next += 1;
        }
        if !comma && count == 1 {
            return Ok(shape);
        }
        if count == 0 && (comma || !empty) {
            return Err(self.error(format!("expected an expression, found {}", self.found())));
        }
        self.writer.insert(start, "(");
        self.writer.push(")|k__tuple");
        Ok(Shape::Tight)
    }

    fn is_tuple_end(&self, end: Option<&str>) -> bool {
        matches!(self.kind(), None | Some(Kind::PrintEnd | Kind::TagEnd | Kind::Op(")")))
            || end.is_some_and(|name| self.is_name(name))
    }

    pub(super) fn list(&mut self) -> Result<()> {
        self.expect_op("[")?;
        self.write("[");
        let mut count = 0;
        while !self.is_op("]") {
            if count > 0 {
                self.expect_op(",")?;
                self.writer.push(", ");
                if self.is_op("]") {
                    break;
                }
            }
            self.count(&mut count, MAX_ITEMS, "items")?;
            self.expression(true)?;
        }
        self.expect_op("]")?;
        self.writer.push("]|k__list");
        Ok(())
    }

    pub(super) fn dict(&mut self) -> Result<()> {
        self.expect_op("{")?;
        // A list, for minijinja would hash the keys before they are paid for.
        self.write("[");
        let mut count = 0;
        while !self.is_op("}") {
            if count > 0 {
                self.expect_op(",")?;
                self.writer.push(", ");
                if self.is_op("}") {
                    break;
                }
            }
            self.count(&mut count, MAX_ITEMS, "entries")?;
            self.expression(true)?;
            self.expect_op(":")?;
            self.writer.push(", ");
            self.expression(true)?;
        }
        self.expect_op("}")?;
        self.writer.push("]|k__dict");
        Ok(())
    }
}
