//! Columns as nested values.
//!
//! Purpose: the schema as a tree, and a value of JSON for each of its fields out of the levels of the columns (Dremel).
//! Invariants: each step takes a level of a column, so that it ends; columns that do not agree are an error.
//! Must not know: pages, what the fields mean.

use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::schema::types::Type;

use super::super::json::{Fields, Json};
use super::leaf::{Leaf, NoText};

/// A field of the schema.
pub(super) enum Node {
    /// A column by its place among those that are read; none for a type that is not read.
    Leaf(usize),
    /// A group of fields, which is null below this definition level.
    Group { fields: Vec<(String, Node)>, defined: i16 },
    /// A list: null below `defined`, empty at it; its elements repeat at this repetition level.
    List { element: Box<Node>, defined: i16, repetition: i16 },
}

/// Why a row could not be put together.
#[derive(Debug)]
pub(super) struct Broken {
    /// The path of the field.
    pub(super) field: String,
    pub(super) reason: Reason,
}

/// What is wrong with a field.
#[derive(Debug)]
pub(super) enum Reason {
    /// The columns do not belong together.
    Columns,
    /// A value is no text.
    Text(NoText),
    /// The row has more bytes than are read.
    TooLarge,
}

/// The number of columns under a field.
pub(super) fn columns(field: &Type) -> usize {
    if field.is_primitive() { 1 } else { field.get_fields().iter().map(|field| columns(field)).sum() }
}

/// Builds the tree of a field; `column` is the place of its first column, and moves on.
pub(super) fn build(field: &Type, column: &mut usize, definition: i16, repetition: i16) -> Node {
    let (own, is_repeated) = match field.get_basic_info().repetition() {
        Repetition::REQUIRED => (definition, false),
        Repetition::OPTIONAL => (definition + 1, false),
        Repetition::REPEATED => (definition + 1, true),
    };
    if is_repeated {
        let element = inside(field, column, own, repetition + 1);
        return Node::List { element: Box::new(element), defined: definition, repetition: repetition + 1 };
    }
    if let Some(repeated) = list_of(field) {
        let element = if is_element(field, repeated) {
            inside(repeated, column, own + 1, repetition + 1)
        } else {
            build(&repeated.get_fields()[0], column, own + 1, repetition + 1)
        };
        return Node::List { element: Box::new(element), defined: own, repetition: repetition + 1 };
    }
    inside(field, column, own, repetition)
}

/// The field itself, whatever repeats it.
fn inside(field: &Type, column: &mut usize, definition: i16, repetition: i16) -> Node {
    if field.is_primitive() {
        *column += 1;
        return Node::Leaf(*column - 1);
    }
    let mut fields = Vec::new();
    for field in field.get_fields() {
        fields.push((field.name().to_owned(), build(field, column, definition, repetition)));
    }
    Node::Group { fields, defined: definition }
}

/// The repeated field of a list, when the field is one.
fn list_of(field: &Type) -> Option<&Type> {
    let info = field.get_basic_info();
    let is_list = info.converted_type() == ConvertedType::LIST
        || matches!(info.logical_type_ref(), Some(LogicalType::List));
    match field {
        Type::GroupType { fields, .. } if is_list => match fields.as_slice() {
            [only] if only.get_basic_info().repetition() == Repetition::REPEATED => Some(only),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the repeated field is the element itself, as old writers have it.
fn is_element(list: &Type, repeated: &Type) -> bool {
    let Type::GroupType { fields, .. } = repeated else { return true };
    let old = repeated.name() == "array" || repeated.name() == format!("{}_tuple", list.name());
    fields.len() != 1 || old
}

impl Node {
    /// A column under this field that tells its levels.
    fn guide(&self) -> Option<usize> {
        match self {
            Self::Leaf(column) => Some(*column),
            Self::Group { fields, .. } => fields.iter().find_map(|(_, node)| node.guide()),
            Self::List { element, .. } => element.guide(),
        }
    }

    /// Steps over a place in all columns under this field.
    fn skip(&self, leaves: &mut [Option<Leaf>]) {
        match self {
            Self::Leaf(column) => {
                if let Some(leaf) = leaves.get_mut(*column).and_then(Option::as_mut) {
                    leaf.skip();
                }
            }
            Self::Group { fields, .. } => fields.iter().for_each(|(_, node)| node.skip(leaves)),
            Self::List { element, .. } => element.skip(leaves),
        }
    }

    /// Leaves out the fields of which no column is read.
    pub(super) fn pruned(self, leaves: &[Option<Leaf>]) -> Option<Self> {
        match self {
            Self::Leaf(column) => leaves.get(column).is_some_and(Option::is_some).then_some(self),
            Self::Group { fields, defined } => {
                let fields: Vec<_> = fields
                    .into_iter()
                    .filter_map(|(name, node)| Some((name, node.pruned(leaves)?)))
                    .collect();
                (!fields.is_empty()).then_some(Self::Group { fields, defined })
            }
            Self::List { element, defined, repetition } => {
                let element = Box::new(element.pruned(leaves)?);
                Some(Self::List { element, defined, repetition })
            }
        }
    }

    /// Takes the value of this field out of the row that the columns hold.
    pub(super) fn take(&self, leaves: &mut [Option<Leaf>], left: &mut u64) -> Result<Json, Broken> {
        let broken = |reason| Broken { field: String::new(), reason };
        let guide = self.guide();
        let peek = |leaves: &[Option<Leaf>]| guide.and_then(|guide| leaves.get(guide)?.as_ref()?.peek());
        let level = peek(leaves).ok_or_else(|| broken(Reason::Columns))?;
        match self {
            Self::Leaf(column) => {
                let leaf = leaves.get_mut(*column).and_then(Option::as_mut);
                let leaf = leaf.ok_or_else(|| broken(Reason::Columns))?;
                // As many bytes as the value would have in JSON, at the least.
                let size = 2 + leaf.size();
                *left = left.checked_sub(size).ok_or_else(|| broken(Reason::TooLarge))?;
                leaf.take().map_err(|error| broken(Reason::Text(error)))
            }
            Self::Group { defined, .. } if level.definition < *defined => {
                self.skip(leaves);
                Ok(Json::Null)
            }
            Self::Group { fields, .. } => {
                let mut object = Fields::default();
                for (name, node) in fields {
                    let value = node.take(leaves, left).map_err(|error| error.inside(name))?;
                    object.push(name.clone(), value);
                }
                Ok(Json::Object(object))
            }
            Self::List { defined, .. } if level.definition <= *defined => {
                self.skip(leaves);
                Ok(if level.definition < *defined { Json::Null } else { Json::Array(Vec::new()) })
            }
            Self::List { element, repetition, .. } => {
                let mut list = Vec::new();
                loop {
                    let place = list.len();
                    let value =
                        element.take(leaves, left).map_err(|error| error.inside(&format!("[{place}]")))?;
                    list.push(value);
                    if peek(leaves).is_none_or(|level| level.repetition < *repetition) {
                        return Ok(Json::Array(list));
                    }
                }
            }
        }
    }
}

impl Broken {
    /// The same inside a field.
    pub(super) fn inside(mut self, field: &str) -> Self {
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field = format!("{field}{dot}{}", self.field);
        self
    }
}
