//! Every target: the name of the program says which one it is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let name = env!("CARGO_BIN_NAME");
    if !kiln_formats::fuzzing::run(name, bytes) {
        kiln::fuzzing::run(name, bytes);
    }
});
