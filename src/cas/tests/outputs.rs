//! What stages make: links, empty folders, bits, modes.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;

use super::super::disk::remove_tree;
use super::super::{CollectError, Tree};
use super::*;

/// A folder in which a stage works.
fn scratch(p: &Place) -> PathBuf {
    let scratch = p.store.work(&Digest::of_bytes(b"key")).join("attempt");
    fs::create_dir_all(&scratch).unwrap();
    scratch
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn listing(p: &Place, artifact: &ArtifactRef) -> Tree {
    p.store.tree(&artifact.digest).unwrap()
}

fn refused(p: &Place, output: &Path, inputs: &[(PathBuf, ArtifactRef)]) -> String {
    match p.store.collect(output, inputs) {
        Err(CollectError::Refused(error)) => error.to_string(),
        Err(CollectError::Recoverable(error)) => panic!("recoverable: {error}"),
        Ok(_) => panic!("{} was collected", output.display()),
    }
}

#[test]
fn empty_folders_links_and_executable_bits_come_out_as_they_went_in() {
    let p = place();
    let output = scratch(&p).join("o");
    for (file, bits) in [("bin/tool", 0o755), ("lib/libx.so.1", 0o644), ("same", 0o600)] {
        fs::create_dir_all(output.join(file).parent().unwrap()).unwrap();
        fs::write(output.join(file), "equal bytes").unwrap();
        chmod(&output.join(file), bits);
    }
    fs::create_dir_all(output.join("a/b/empty")).unwrap();
    for (at, target) in [
        ("lib/libx.so", "libx.so.1"),
        ("bin/lib", "../lib"),
        ("a/up", "./..//bin/../lib/libx.so"),
        ("gone", "not/there"),
        ("self", "."),
    ] {
        symlink(target, output.join(at)).unwrap();
    }
    let kept = p.store.ingest(&output).unwrap();
    let tree = listing(&p, &kept);
    let links: Vec<_> = tree.links.iter().map(|l| (l.path.as_str(), l.target.as_str())).collect();
    assert_eq!(
        links,
        [
            ("a/up", "../lib/libx.so"),
            ("bin/lib", "../lib"),
            ("gone", "not/there"),
            ("lib/libx.so", "libx.so.1"),
            ("self", ".")
        ]
    );
    assert_eq!(tree.folders, ["a/b/empty"]);
    let bits: Vec<_> = tree.files.iter().map(|f| (f.path.as_str(), f.executable)).collect();
    assert_eq!(bits, [("bin/tool", true), ("lib/libx.so.1", false), ("same", false)]);
    assert_eq!(
        files_below(&p.store.root().join("blobs")).len(),
        2,
        "one blob for equal bytes, one for the tree"
    );
    assert!(files_below(&p.store.root().join("blobs")).iter().all(|blob| mode(blob) == 0o444));
    for how in [How::Copies, How::Links] {
        let copy = p.path("copy");
        p.store.materialize(&kept, &copy, how).unwrap();
        assert!(copy.join("a/b/empty").is_dir());
        assert_eq!(fs::read_link(copy.join("bin/lib")).unwrap(), Path::new("../lib"));
        assert_eq!(fs::read_to_string(copy.join("a/up")).unwrap(), "equal bytes");
        assert_eq!(mode(&copy.join("bin/tool")), 0o755);
        remove_tree(&copy).unwrap();
    }
    p.store.export(&kept, &p.path("copy")).unwrap();
    assert_eq!(p.store.named(&p.path("copy")).unwrap(), kept);
}

#[test]
fn the_bit_of_a_single_file_stands_beside_its_digest_and_does_not_leak() {
    let p = place();
    let (tool, text) = (scratch(&p).join("tool"), scratch(&p).join("text"));
    for (file, bits) in [(&tool, 0o755), (&text, 0o644)] {
        fs::write(file, "equal bytes").unwrap();
        chmod(file, bits);
    }
    let (named_tool, named_text) = (p.store.named(&tool).unwrap(), p.store.named(&text).unwrap());
    let (tool, text) = (p.store.ingest(&tool).unwrap(), p.store.ingest(&text).unwrap());
    assert_eq!((tool, text), (named_tool, named_text));
    assert!(tool.executable && !text.executable && tool.digest == text.digest);
    assert_eq!(mode(&p.store.blob(&tool.digest)), 0o444);
    for (artifact, bits) in [(tool, 0o755), (text, 0o644)] {
        let copy = p.path("copy");
        p.store.materialize(&artifact, &copy, How::Copies).unwrap();
        assert_eq!(mode(&copy), bits);
        fs::remove_file(&copy).unwrap();
        p.store.materialize(&artifact, &copy, How::Links).unwrap();
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o111 != 0, artifact.executable);
        fs::remove_file(&copy).unwrap();
    }
    let json = serde_json::to_string(&text).unwrap();
    assert!(!json.contains("executable"), "{json}");
    assert_eq!(serde_json::from_str::<ArtifactRef>(&serde_json::to_string(&tool).unwrap()).unwrap(), tool);
}

#[test]
fn a_link_out_of_an_output_is_refused_and_named() {
    let p = place();
    let outside = p.file("outside", "x");
    let output = scratch(&p).join("o");
    fs::create_dir_all(output.join("deep")).unwrap();
    for target in [outside.to_str().unwrap(), "../../x", "/nowhere", "../../o/deep", "..//../.."] {
        let link = output.join("deep/link");
        symlink(target, &link).unwrap();
        let error = refused(&p, &output, &[]);
        assert!(error.contains("deep/link is a link to") && error.contains(target), "{error}");
        assert!(link.is_symlink(), "the attempt is kept as it is");
        fs::remove_file(&link).unwrap();
    }
    symlink(&outside, scratch(&p).join("single")).unwrap();
    assert!(refused(&p, &scratch(&p).join("single"), &[]).contains("not within the same output"));
    assert!(Path::new(&outside).exists());
}

#[test]
fn links_into_the_inputs_of_a_stage_are_collected_as_bytes() {
    let p = place();
    let made = scratch(&p).join("made");
    fs::create_dir_all(made.join("sub/empty")).unwrap();
    fs::write(made.join("sub/a"), "a").unwrap();
    fs::write(made.join("tool"), "tool").unwrap();
    chmod(&made.join("tool"), 0o755);
    symlink("sub/a", made.join("l")).unwrap();
    let folder = p.store.ingest(&made).unwrap();
    let file = p.ingested("single");
    let other = p.ingested("of another stage");
    for how in [How::Links, How::Copies] {
        let (folder_at, file_at) = (scratch(&p).join("inputs/folder"), scratch(&p).join("inputs/file"));
        p.store.materialize(&folder, &folder_at, how).unwrap();
        p.store.materialize(&file, &file_at, how).unwrap();
        let inputs = [(folder_at.clone(), folder), (file_at.clone(), file)];
        let output = scratch(&p).join("o");
        fs::create_dir(&output).unwrap();
        symlink(&folder_at, output.join("all")).unwrap();
        symlink("../inputs/file", output.join("one")).unwrap();
        symlink("../inputs/folder/tool", output.join("tool")).unwrap();
        let kept = p.store.ingest_with(&output, &inputs).unwrap();
        let tree = listing(&p, &kept);
        let files: Vec<_> = tree.files.iter().map(|f| (f.path.as_str(), f.executable)).collect();
        assert_eq!(
            files,
            [("all/sub/a", false), ("all/tool", true), ("one", false), ("tool", true)],
            "{how:?}"
        );
        assert_eq!(tree.links.len(), 1);
        assert_eq!(tree.folders, ["all/sub/empty"]);
        assert!(file_at.exists() && folder_at.join("sub/a").exists(), "inputs are never moved");
        // A whole input passed on is the same artifact.
        let same = scratch(&p).join("same");
        symlink("inputs/folder", &same).unwrap();
        assert_eq!(p.store.ingest_with(&same, &inputs).unwrap(), folder);
        // A blob that is no input of the stage is none of its business.
        fs::remove_file(&same).unwrap();
        symlink(p.store.blob(&other.digest), &same).unwrap();
        assert!(refused(&p, &same, &inputs).contains("not within the same output"));
        remove_tree(&scratch(&p)).unwrap();
    }
}

#[test]
fn an_output_without_permissions_is_collected_and_its_remains_can_be_removed() {
    let p = place();
    let output = scratch(&p).join("o");
    fs::create_dir_all(output.join("a/b")).unwrap();
    fs::write(output.join("a/b/file"), "x").unwrap();
    for (path, bits) in [("a/b/file", 0o000), ("a/b", 0o555), ("a", 0o000), ("", 0o500)] {
        chmod(&output.join(path), bits);
    }
    let again = p.store.collect_kept(&output, &[]).unwrap().artifact;
    let kept = p.store.ingest(&output).unwrap();
    assert_eq!(kept, again);
    assert_eq!(listing(&p, &kept).files[0].path, "a/b/file");
    remove_tree(&scratch(&p)).unwrap();
    assert!(!scratch(&p).join("o").exists());
}

#[test]
fn a_link_in_place_of_the_scratch_folder_costs_nobody_a_file() {
    let p = place();
    let mine = p.file("mine/o/precious", "precious");
    let scratch = scratch(&p);
    fs::remove_dir(&scratch).unwrap();
    symlink(p.path("mine"), &scratch).unwrap();
    chmod(&mine, 0o600);
    chmod(&p.path("mine/o"), 0o500);
    let kept = p.store.ingest(&scratch.join("o")).unwrap();
    assert_eq!(listing(&p, &kept).files[0].path, "precious");
    assert_eq!((fs::read_to_string(&mine).unwrap().as_str(), mode(&mine)), ("precious", 0o600));
    assert_eq!(mode(&p.path("mine/o")), 0o500);
}

#[test]
fn pipes_and_bad_names_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let p = place();
    let output = scratch(&p).join("o");
    fs::create_dir(&output).unwrap();
    drop(std::os::unix::net::UnixListener::bind(output.join("s")).unwrap());
    assert!(refused(&p, &output, &[]).contains("is a socket"));
    assert!(refused(&p, &output.join("s"), &[]).contains("is a socket"));
    fs::remove_file(output.join("s")).unwrap();
    for bad in [&b"back\\slash"[..], b"\xff"] {
        let bad = output.join(std::ffi::OsStr::from_bytes(bad));
        fs::write(&bad, "").unwrap();
        assert!(refused(&p, &output, &[]).contains("cannot be part of an artifact"));
        fs::remove_file(bad).unwrap();
    }
    let deep = (0..300).fold(output.clone(), |path, _| path.join("d"));
    fs::create_dir_all(deep).unwrap();
    assert!(refused(&p, &output, &[]).contains("the limit of 256 folders"));
}

/// What one path of a random folder is to become.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, bool),
    Link(String),
    Empty,
}

fn random_folder() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    let node = prop_oneof![
        3 => (bytes, any::<bool>()).prop_map(|(bytes, executable)| Node::File(bytes, executable)),
        2 => "(\\.\\./|\\./|/){0,3}[ab.]{1,2}(/\\.\\.|/[ab]){0,3}".prop_map(Node::Link),
        1 => Just(Node::Empty),
    ];
    proptest::collection::btree_map("[ab-]{1,2}(/[ab]{1,2}){0,3}", node, 1..12)
}

/// Writes what can be written; a path below something that is not a folder is left out.
fn write_folder(base: &Path, nodes: &BTreeMap<String, Node>) {
    fs::create_dir_all(base).unwrap();
    for (path, node) in nodes {
        let path = base.join(path);
        let parent = path.parent().unwrap();
        // Never through a link: it may lead anywhere.
        let through = parent.ancestors().take_while(|above| *above != base).any(Path::is_symlink);
        if through || fs::create_dir_all(parent).is_err() || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match node {
            Node::File(bytes, executable) => {
                fs::write(&path, bytes).unwrap();
                chmod(&path, if *executable { 0o755 } else { 0o644 });
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Empty => fs::create_dir(&path).unwrap(),
        }
    }
}

/// Every path with what it is.
fn described(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let what = if meta.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if meta.is_symlink() {
                "link".to_owned()
            } else {
                format!("{} {:?}", meta.mode() & 0o100, fs::read(&path).unwrap())
            };
            all.insert(path.strip_prefix(folder).unwrap().to_owned(), what);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_random_folder_is_refused_for_a_link_that_leads_out_or_comes_out_as_it_went_in(nodes in random_folder()) {
        let p = quick_place();
        let output = scratch(&p).join("o");
        write_folder(&output, &nodes);
        let before = described(&output);
        match p.store.collect(&output, &[]) {
            Err(CollectError::Refused(error)) => {
                prop_assert!(error.to_string().contains("is not within the same output"), "{}", error);
                prop_assert_eq!(described(&output).len(), before.len());
            }
            Err(CollectError::Recoverable(error)) => panic!("recoverable: {error}"),
            Ok(_) => {
                let kept = p.store.ingest(&output).unwrap();
                let tree = listing(&p, &kept);
                prop_assert_eq!(Tree::parse(tree.to_json().as_bytes()), Ok(tree));
                for how in [How::Copies, How::Links] {
                    let copy = p.path("copy");
                    p.store.materialize(&kept, &copy, how).unwrap();
                    if how == How::Copies {
                        prop_assert_eq!(&described(&copy), &before);
                        prop_assert_eq!(p.store.named(&copy).unwrap(), kept);
                        let again = p.store.ingest_source(&copy, &p.path("again"), &Ignore::none()).unwrap();
                        prop_assert_eq!(again, kept);
                        prop_assert_eq!(&described(&p.path("again")), &before);
                    }
                    remove_tree(&copy).unwrap();
                }
            }
        }
    }
}
