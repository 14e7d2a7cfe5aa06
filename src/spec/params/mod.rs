//! The params of a kind against its JSON Schema.
//!
//! `check` walks values and schema together, `choice` where a schema offers several; `number` has exact numbers and
//! their bounds, `schema` how the parts of a schema are read, and the budget that a hostile schema cannot exceed.

mod check;
mod choice;
mod number;
mod schema;

pub use check::Checker;
pub use choice::other_name;
pub use schema::names;
