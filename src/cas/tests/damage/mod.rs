//! Random damage to a local store and to a remote.
//!
//! `world` makes a store and a remote with the same results, `harm` changes bytes of their files, `checks` holds what is
//! read afterwards against what was made. `disk` has a disk that fails meanwhile.

mod checks;
mod disk;
mod harm;
mod world;
