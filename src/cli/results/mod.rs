//! The commands that show what runs made: records, metrics, artifacts, and the replies of models.

pub mod card;
pub mod converse;
pub mod dataset;
pub mod export;
pub mod log;
pub mod metrics;
pub mod model;
pub mod origin;
pub mod show;
