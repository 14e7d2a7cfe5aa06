//! Sources: ignore rules, links, and copies that are hashed on their way.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::super::StoreError;
use super::*;

fn rules(p: &Place, lines: &[&str]) -> Ignore {
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    Ignore::new(p.dir.path(), &lines, p.store.root()).unwrap()
}

/// Copies a source and gives the names of what was copied; naming it in place gives the same.
fn copied(p: &Place, source: &str, ignore: &Ignore) -> Vec<String> {
    let dest = p.path("copy");
    let _ = super::super::disk::remove_tree(&dest);
    let copied = p.store.ingest_source(&p.path(source), &dest, ignore).unwrap();
    assert_eq!(p.store.identify(&p.path(source), ignore).unwrap(), copied);
    assert_eq!(p.store.named(&dest).unwrap(), copied);
    let names = files_below(&dest).into_iter();
    names.map(|path| path.strip_prefix(&dest).unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn what_interpreters_editors_and_version_control_leave_does_not_count() {
    let p = place();
    p.file("lib/main.py", "1");
    let before = p.store.identify(&p.path("lib"), &rules(&p, &[])).unwrap();
    for name in [
        "__pycache__/main.cpython-312.pyc",
        "main.pyc",
        ".git/HEAD",
        ".hg/store",
        ".svn/entries",
        ".DS_Store",
        "main.py~",
        ".main.py.swp",
        ".ipynb_checkpoints/a.ipynb",
    ] {
        p.file(&format!("lib/{name}"), "noise");
    }
    symlink("somebody@host.123:456", p.path("lib/.#main.py")).unwrap();
    symlink("/nowhere", p.path("lib/.#other")).unwrap();
    assert_eq!(p.store.identify(&p.path("lib"), &rules(&p, &[])).unwrap(), before);
    assert_eq!(copied(&p, "lib", &rules(&p, &[])), ["main.py"]);
}

#[test]
fn later_rules_win_and_gits_own_files_are_not_read() {
    let p = place();
    for name in ["a.txt", "b.txt", "c.txt", "d.log", ".git/HEAD"] {
        p.file(&format!("s/{name}"), name);
    }
    p.file(".gitignore", "*\n");
    p.file("s/.ignore", "a.txt\n");
    p.file("s/.kilnignore", "b.txt\n");
    assert_eq!(
        copied(&p, "s", &rules(&p, &["*.log"])),
        [".ignore", ".kilnignore", "a.txt", "b.txt", "c.txt"]
    );
    p.file(".kilnignore", "# what follows wins\n/s/.*\n!*.log\n/s/c.txt\n");
    assert_eq!(copied(&p, "s", &rules(&p, &["*.log", "!.git"])), ["a.txt", "b.txt", "d.log"]);
    let bad = Ignore::new(p.dir.path(), &["a{".into()], p.store.root()).unwrap_err().to_string();
    assert!(bad.contains("`a{` is not a rule of gitignore syntax"), "{bad}");
}

#[test]
fn what_a_glob_finds_below_a_folder_that_does_not_count_does_not_count() {
    let p = place();
    let ignore = rules(&p, &["build/", "*.log"]);
    let base = p.path("s");
    let hidden = |file: &str| ignore.hides(&base, &base.join(file));
    assert!(hidden("build/deep/x.py") && hidden(".git/x.py") && hidden("a/x.log") && hidden("__pycache__/x"));
    assert!(!hidden("a/x.py") && !hidden("builds/x.py"));
    // The base itself was named by the user.
    assert!(!ignore.hides(&p.path("build"), &p.path("build/x.py")));
}

#[test]
fn a_listing_holds_what_the_name_stands_for() {
    let p = place();
    p.file("s/a", "a");
    p.file("s/b/c", "c");
    let ignore = rules(&p, &[]);
    let tree = p.store.list_source(&p.path("s"), &ignore).unwrap();
    let json = tree.to_json();
    assert_eq!(Digest::of_bytes(json.as_bytes()), p.store.identify(&p.path("s"), &ignore).unwrap().digest);
    let single = p.store.list_source(&p.path("s/b/c"), &ignore).unwrap().files.remove(0);
    assert_eq!((single.path.as_str(), single.digest), ("c", Digest::of_bytes(b"c")));
}

#[test]
fn the_store_is_no_part_of_a_source_by_whatever_name() {
    let p = place();
    p.file("data/a", "a");
    p.ingested("so that there is a store");
    fs::create_dir(p.path("data/kept")).unwrap();
    symlink(p.store.root(), p.path("data/link")).unwrap();
    assert_eq!(copied(&p, "data", &rules(&p, &[])), ["a"]);
    let whole = p.store.identify(p.dir.path(), &rules(&p, &["copy"])).unwrap();
    p.ingested("more");
    fs::remove_file(p.path("output")).unwrap();
    p.file("output", "so that there is a store");
    assert_eq!(p.store.identify(p.dir.path(), &rules(&p, &["copy"])).unwrap(), whole);
}

#[test]
fn links_that_lead_out_are_what_they_lead_to_and_cycles_end() {
    let p = place();
    p.file("s/a", "a");
    p.file("elsewhere/deep/b", "b");
    symlink("../elsewhere", p.path("s/out")).unwrap();
    symlink(p.path("elsewhere/deep/b"), p.path("s/b")).unwrap();
    symlink("a", p.path("s/inner")).unwrap();
    symlink("deep/b", p.path("elsewhere/inner")).unwrap();
    assert_eq!(copied(&p, "s", &Ignore::none()), ["a", "b", "inner", "out/deep/b", "out/inner"]);
    assert!(fs::symlink_metadata(p.path("copy/inner")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(p.path("copy/out/deep/b")).unwrap().is_file());

    let bad = |target: &Path| {
        symlink(target, p.path("elsewhere/bad")).unwrap();
        let error = p.store.named(&p.path("s")).unwrap_err();
        fs::remove_file(p.path("elsewhere/bad")).unwrap();
        assert!(matches!(error, StoreError::BadLink { .. }), "{error}");
        error.to_string()
    };
    assert!(bad(&p.path("s")).contains("a folder that it stands in"));
    assert!(bad(Path::new("../s")).contains("a folder that it stands in"));
    assert!(bad(Path::new("../nowhere")).contains("which does not exist"));
}

#[test]
fn a_copy_of_a_source_has_ordinary_modes_and_keeps_bits_and_empty_folders() {
    let p = place();
    let tool = p.file("s/bin/tool", "#!/bin/sh\n");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o711)).unwrap();
    let text = p.file("s/text", "text");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o400)).unwrap();
    fs::create_dir_all(p.path("s/empty/deep")).unwrap();
    copied(&p, "s", &Ignore::none());
    let mode = |name: &str| fs::metadata(p.path("copy").join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("bin/tool"), mode("text"), mode("")), (0o755, 0o644, 0o755));
    assert!(p.path("copy/empty/deep").is_dir());
    let single = p.store.ingest_source(&tool, &p.path("single"), &Ignore::none()).unwrap();
    assert!(single.executable && single == p.store.named(&tool).unwrap());
    fs::write(p.path("copy/text"), "written to").unwrap();
    assert_eq!(fs::read_to_string(&text).unwrap(), "text");
}

#[test]
fn a_source_that_is_read_once_is_known_by_its_stat() {
    let p = place();
    let file = p.file("source", "text");
    std::thread::sleep(std::time::Duration::from_millis(30));
    p.store.ingest_source(&file, &p.path("copy"), &Ignore::none()).unwrap();
    let stat = super::super::Stat::of(&fs::metadata(&file).unwrap());
    assert_eq!(p.store.blobs.trust.file(&file, &stat), Some(Digest::of_bytes(b"text")));
}
