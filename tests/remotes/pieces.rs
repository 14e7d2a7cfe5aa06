//! Large files in pieces, and what is only near what is there.

use super::*;

/// Two large files, the second one like the first.
#[test]
fn a_near_copy_moves_little_more_than_its_difference_both_ways() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LARGE), shared.project(LARGE));
    ours.ask(&["run"]);
    let size = fs::metadata(ours.path("artifacts/out/p/last/o")).unwrap().len();
    let sent = |target: &str| shared.json(&ours, &["push", target])["remotes"][0]["bytes"].as_u64().unwrap();
    let (first, last) = (sent("first"), sent("last"));
    assert!(size > 1 << 20 && first < size && last < size / 10, "{size} {first} {last}");
    assert_eq!((shared.files("recipes").len(), shared.files("packs").len()), (2, 2));
    assert_eq!(outcomes(&shared.json(&theirs, &["run"])), ["first=fetched", "last=fetched"]);
    let bytes = |p: &Pipeline| fs::read(p.path("artifacts/out/p/last/o")).unwrap();
    assert!(bytes(&ours) == bytes(&theirs));
}

#[test]
fn near_copies_that_are_sent_at_once_are_differences_from_each_other() {
    let more = |name: &str, of: &str| {
        format!(
            "  {name}: {{ inputs: {{ f: {of} }}, run: '(echo {name}; cat {{inputs.f}}) > {{outputs.o}}', outputs: {{ o: any }} }}\n"
        )
    };
    // The first letters of the names are no order.
    let yaml = [LARGE, &more("even", "last"), &more("deep", "even"), &more("and", "last")].concat();
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(&yaml), shared.project(&yaml));
    ours.ask(&["run"]);
    let sent = |to: &Shared, words: &[&str]| to.json(&ours, words)["remotes"][0]["bytes"].as_u64().unwrap();
    let (one, five) = (sent(&Shared::new(), &["push", "first"]), sent(&shared, &["push"]));
    assert!(five < 2 * one, "{five} bytes for five files that differ in a line each, {one} for one of them");
    assert_eq!(shared.json(&theirs, &["run"])["outcome"], "ok");
    let bytes = |p: &Pipeline| fs::read(p.path("artifacts/out/p/deep/o")).unwrap();
    assert!(bytes(&ours) == bytes(&theirs));
}

#[test]
fn damaged_packs_and_recipes_are_never_served_and_are_healed() {
    for kind in ["packs", "recipes"] {
        for cut in [false, true] {
            let shared = Shared::new();
            let (ours, theirs) = (shared.project(LARGE), shared.project(LARGE));
            shared.ask(&ours, &["run"]);
            for file in shared.files(kind) {
                let mut bytes = fs::read(&file).unwrap();
                let middle = bytes.len() / 2;
                if cut {
                    bytes.truncate(middle);
                } else {
                    bytes[middle] ^= 1;
                }
                fs::write(&file, bytes).unwrap();
            }
            let run = shared.json(&theirs, &["run"]);
            assert_eq!(run["outcome"], "ok", "{kind} {cut}: {run:#}");
            let bytes = |p: &Pipeline| fs::read(p.path("artifacts/out/p/last/o")).unwrap();
            assert!(bytes(&ours) == bytes(&theirs), "{kind} {cut}");
            let third = shared.project(LARGE);
            assert_eq!(outcomes(&shared.json(&third, &["run"]))[1], "last=fetched", "{kind} {cut}");
            assert!(bytes(&ours) == bytes(&third), "{kind} {cut}");
        }
    }
}

/// A safetensors file with one tensor of these numbers.
fn safetensors(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    let data: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
    let header = serde_json::json!({ "w": { "dtype": "F32", "shape": [data.len() / 4], "data_offsets": [0, data.len()] } });
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

#[test]
fn a_fine_tuned_model_is_sent_as_its_difference_and_a_missing_parent_is_a_miss() {
    let noise = |n: u32| f32::from_bits(0x3d00_0000 | (n.wrapping_mul(2_654_435_761) & 0x00ff_ffff));
    let (base, tuned) =
        (safetensors((0..500_000).map(noise)), safetensors((0..500_000).map(|n| noise(n) * 1.0001)));
    let yaml = "
pipeline: p
sources: { a: { path: a.safetensors, type: any }, b: { path: b.safetensors, type: any } }
stages:
  base: { inputs: { s: a }, run: 'cp {inputs.s} {outputs.o}', outputs: { o: any } }
  tuned: { inputs: { s: b, p: base }, run: 'cp {inputs.s} {outputs.o}', outputs: { o: any } }
";
    let shared = Shared::new();
    let project = || {
        let p = Pipeline::new().yaml(yaml);
        fs::write(p.path("a.safetensors"), &base).unwrap();
        fs::write(p.path("b.safetensors"), &tuned).unwrap();
        p
    };
    let (ours, theirs) = (project(), project());
    ours.ask(&["run"]);
    let sent = |target: &str| shared.json(&ours, &["push", target])["remotes"][0]["bytes"].as_u64().unwrap();
    let (first, second) = (sent("base"), sent("tuned"));
    assert!(second < first * 7 / 10, "{second} of {first}");
    // The parent is not here, so it is fetched on the way.
    assert_eq!(outcomes(&shared.json(&theirs, &["run"])), ["base=fetched", "tuned=fetched"]);
    assert!(fs::read(theirs.path("artifacts/out/p/tuned/o")).unwrap() == tuned);
    for recipe in shared
        .files("recipes")
        .iter()
        .filter(|path| path.ends_with(kiln::digest::Digest::of_bytes(&base).to_string()))
    {
        fs::remove_file(recipe).unwrap();
    }
    let third = project();
    assert_eq!(outcomes(&shared.json(&third, &["run"])), ["base=ran", "tuned=ran"]);
    assert!(fs::read(third.path("artifacts/out/p/tuned/o")).unwrap() == tuned);
}

#[test]
fn a_damaged_remote_is_repaired_by_sending_again() {
    let shared = Shared::new();
    let (ours, theirs) = (shared.project(LARGE), shared.project(LARGE));
    shared.ask(&ours, &["run"]);
    for file in [shared.files("packs"), shared.files("blobs")].concat() {
        let mut bytes = fs::read(&file).unwrap();
        bytes[0] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    let pull = shared.ask(&theirs, &["pull"]);
    assert!(pull.code == 1 && (pull.out + &pull.err).contains("kiln push --resend first"));
    assert_eq!(shared.ask(&ours, &["push", "--resend"]).code, 0);
    assert_eq!(shared.json(&theirs, &["pull"])["fetched"], serde_json::json!(["first", "last"]));
}

#[test]
fn a_folder_of_many_files_is_shared_as_well() {
    let shared = Shared::new();
    let yaml = "
pipeline: p
stages:
  many: { run: 'mkdir {outputs.d}; cd {outputs.d}; for n in $(seq 12000); do echo $((n % 7)) > file-$n; done', outputs: { d: any } }
";
    let (ours, theirs) = (shared.project(yaml), shared.project(yaml));
    let run = shared.ask(&ours, &["run"]);
    assert!(run.err.contains("has 1 result"), "{}", run.err);
    assert_eq!(outcomes(&shared.json(&theirs, &["run"])), ["many=fetched"]);
    assert_eq!(fs::read_dir(theirs.path("artifacts/out/p/many/d")).unwrap().count(), 12_000);
}
