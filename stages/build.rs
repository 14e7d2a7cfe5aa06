//! Lets the worker find libtorch where it was at build time: an rpath to its lib folder, and the
//! folder's name for the search of the CUDA half.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if std::env::var_os("CARGO_FEATURE_TCH").is_none() {
        return;
    }
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        println!("cargo:rustc-env=KILN_LIBTORCH={libtorch}");
    }
}
