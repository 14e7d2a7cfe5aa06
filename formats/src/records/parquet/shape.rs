//! What the fields of the metadata are.
//!
//! Purpose: the structs of `parquet.thrift`, as far as the crate `parquet` knows them, and a walk that compares types.
//! Invariant: the crate reads a field that it knows without a look at its type, so that another type would mean one thing
//! here and another there: a walk refuses it. A field that the crate does not know is stepped over by both.
//! Must not know: what the values mean.

use Shape::{Any, Bool, List, Plain, Struct};

use super::thrift::{BINARY, FALSE, I32, LIST, Result, STRUCT, TRUE, Thrift, ThriftError};

const BYTE: u8 = 3;
const I16: u8 = 4;
const I64: u8 = 6;
const DOUBLE: u8 = 7;

/// What a value is.
pub(super) enum Shape {
    /// True or false, which the type of the field says.
    Bool,
    /// A number or bytes of this type.
    Plain(u8),
    /// A list of values.
    List(&'static Shape),
    /// A struct or a union: its known fields by number.
    Struct(&'static [(i16, Shape)]),
    /// What the crate steps over, by its type.
    Any,
}

const KEY_VALUE: Shape = Struct(&[(1, Plain(BINARY)), (2, Plain(BINARY))]);
const EMPTY: Shape = Struct(&[]);
const UNIT: Shape = Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);
const TIME: Shape = Struct(&[(1, Bool), (2, UNIT)]);

const LOGICAL_TYPE: Shape = Struct(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, Plain(I32)), (2, Plain(I32))])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, Struct(&[(1, Plain(BYTE)), (2, Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Struct(&[(1, Plain(BYTE))])),
    (17, Struct(&[(1, Plain(BINARY))])),
    (18, Struct(&[(1, Plain(BINARY)), (2, Plain(I32))])),
]);

/// A field of the schema.
pub(super) const ELEMENT: &[(i16, Shape)] = &[
    (1, Plain(I32)),
    (2, Plain(I32)),
    (3, Plain(I32)),
    (4, Plain(BINARY)),
    (5, Plain(I32)),
    (6, Plain(I32)),
    (7, Plain(I32)),
    (8, Plain(I32)),
    (9, Plain(I32)),
    (10, LOGICAL_TYPE),
];

const BOUNDING_BOX: Shape = Struct(&[
    (1, Plain(DOUBLE)),
    (2, Plain(DOUBLE)),
    (3, Plain(DOUBLE)),
    (4, Plain(DOUBLE)),
    (5, Plain(DOUBLE)),
    (6, Plain(DOUBLE)),
    (7, Plain(DOUBLE)),
    (8, Plain(DOUBLE)),
]);

/// Statistics, those of encodings and of sizes are stepped over, as `footer` has it.
const COLUMN_METADATA: Shape = Struct(&[
    (1, Plain(I32)),
    (2, List(&Plain(I32))),
    (3, List(&Plain(BINARY))),
    (4, Plain(I32)),
    (5, Plain(I64)),
    (6, Plain(I64)),
    (7, Plain(I64)),
    (8, List(&KEY_VALUE)),
    (9, Plain(I64)),
    (10, Plain(I64)),
    (11, Plain(I64)),
    (14, Plain(I64)),
    (15, Plain(I32)),
    (17, Struct(&[(1, BOUNDING_BOX), (2, List(&Plain(I32)))])),
]);

const COLUMN_CHUNK: Shape = Struct(&[
    (1, Plain(BINARY)),
    (2, Plain(I64)),
    (3, COLUMN_METADATA),
    (4, Plain(I64)),
    (5, Plain(I32)),
    (6, Plain(I64)),
    (7, Plain(I32)),
]);

const SORTING_COLUMN: Shape = Struct(&[(1, Plain(I32)), (2, Bool), (3, Bool)]);

const ROW_GROUP: Shape = Struct(&[
    (1, List(&COLUMN_CHUNK)),
    (2, Plain(I64)),
    (3, Plain(I64)),
    (4, List(&SORTING_COLUMN)),
    (5, Plain(I64)),
    (6, Plain(I64)),
    (7, Plain(I16)),
]);

/// The metadata of a file, without its schema.
pub(super) const FILE: &[(i16, Shape)] = &[
    (1, Plain(I32)),
    (3, Plain(I64)),
    (4, List(&ROW_GROUP)),
    (5, List(&KEY_VALUE)),
    (6, Plain(BINARY)),
    (7, List(&Struct(&[(1, EMPTY)]))),
];

impl Thrift<'_> {
    /// Steps over the field of this number in a struct with these fields.
    pub(super) fn known(&mut self, fields: &[(i16, Shape)], number: i16, kind: u8) -> Result<()> {
        let shape = fields.iter().find(|(known, _)| *known == number).map_or(&Any, |(_, shape)| shape);
        self.shaped(shape, kind)
    }

    /// Steps over a value of this type, which must be what the shape says. The depth is that of the shapes.
    fn shaped(&mut self, shape: &Shape, kind: u8) -> Result<()> {
        match (shape, kind) {
            (Any, _) | (Bool, TRUE | FALSE) => self.skip(kind),
            (Plain(wanted), _) if *wanted == kind => self.skip(kind),
            (List(element), LIST) => {
                let (kind, count) = self.list()?;
                for _ in 0..count {
                    self.shaped(element, kind)?;
                }
                Ok(())
            }
            (Struct(fields), STRUCT) => {
                let mut last = 0;
                while let Some((number, kind)) = self.field(last)? {
                    self.known(fields, number, kind)?;
                    last = number;
                }
                Ok(())
            }
            _ => Err(ThriftError::Broken("a field has the wrong type")),
        }
    }
}
