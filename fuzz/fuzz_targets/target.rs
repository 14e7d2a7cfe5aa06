//! Every target: the name of the program says which one it is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kiln::fuzzing::run(env!("CARGO_BIN_NAME"), bytes));
