//! Tests of the checker against schemas that no honest provider has.
