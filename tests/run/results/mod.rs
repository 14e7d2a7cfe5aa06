//! What a result is worth: nothing wrong is ever kept or served.

mod descendants;
mod folders;
mod ignored;
mod keys;
mod machine;
mod orphans;
mod placeholders;
mod records;
mod scratch;
mod shells;
mod stops;
