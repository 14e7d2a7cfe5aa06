//! Providers whose answers are wrong, and the artifact types that they declare.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::protocol::{Description, Port};
use crate::spec::Providers;
use crate::spec::testing::{Fake, GOOD, description, load_with, options, short};

type Change = Box<dyn Fn(&mut Description)>;

/// The description of the tests, changed.
struct Changed(Description);

impl Providers for Changed {
    fn describe(&mut self, _: Option<&Path>) -> Result<Description, String> {
        Ok(self.0.clone())
    }
}

fn load(text: &str, change: impl FnOnce(&mut Description)) -> Result<(), String> {
    let mut answer = description();
    change(&mut answer);
    load_with(text, &options(), &mut Changed(answer)).map(|_| ()).map_err(|all| short(&all))
}

fn with_schema(schema: Value, params: &str) -> Result<(), String> {
    let text = format!(
        "sources: {{ s: x }}\nstages:\n  a: {{ kind: tokenizer, inputs: {{ corpus: s }}, params: {params} }}\n  b: {{ kind: tokenizer, inputs: {{ corpus: s }} }}\n"
    );
    load(&text, |d| d.kinds[2].params = schema)
}

#[test]
fn a_schema_that_refers_to_itself_is_an_error_of_the_provider_and_ends_at_once() {
    let twice = |inner: &str| json!({ "anyOf": [{ "$ref": inner }, { "$ref": inner }] });
    let mut tower = serde_json::Map::new();
    for i in 0..60 {
        tower.insert(format!("d{i}"), twice(&format!("#/$defs/d{}", i + 1)));
    }
    tower.insert("d60".into(), json!({ "type": "object" }));
    let schemas = [
        json!({ "$ref": "#" }),
        json!({ "properties": { "x": { "$ref": "#" } } }),
        json!({ "properties": { "x": { "$ref": "#/properties/x" } } }),
        json!({ "properties": { "x": { "anyOf": [{ "$ref": "#/properties/x" }, { "type": "string" }] } } }),
        json!({ "properties": { "x": { "$ref": "#/$defs/d0" } }, "$defs": tower }),
        json!({ "properties": { "x": { "properties": { "l": { "$ref": "#/properties/x" }, "r": { "$ref": "#/properties/x" } } } } }),
    ];
    let began = Instant::now();
    for schema in schemas {
        let errors = with_schema(schema.clone(), "{ x: 3 }").unwrap_err();
        assert!(errors.contains("the schema of the parameters of kind `tokenizer`"), "{schema}: {errors}");
        assert_eq!(errors.matches("without end").count(), 1, "{errors}");
    }
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn a_recursive_schema_with_an_end_and_a_large_value_are_fine() {
    let node = json!({
        "properties": { "x": { "$ref": "#/$defs/node" } },
        "$defs": { "node": { "type": ["object", "null"], "properties": {
            "n": { "type": "integer", "default": 0 },
            "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }], "default": null },
        } } },
    });
    assert_eq!(with_schema(node, "{ x: { next: { n: 2, next: { n: 3 } } } }"), Ok(()));
    let many =
        json!({ "properties": { "x": { "type": "array", "items": { "type": "integer" }, "default": [] } } });
    assert_eq!(with_schema(many, &format!("{{ x: [{}] }}", "1, ".repeat(50_000))), Ok(()));
}

#[test]
fn names_of_a_provider_that_cannot_be_parts_of_paths_are_its_errors() {
    let port = |name: &str, types: &[&str]| Port {
        name: name.into(),
        types: types.iter().map(|t| (*t).to_owned()).collect(),
        optional: false,
        summary: String::new(),
    };
    let changes: [Change; 8] = [
        Box::new(|d| d.kinds[2].inputs[0].name = "../corpus".into()),
        Box::new(|d| d.kinds[2].outputs[0].name = "a/b".into()),
        Box::new(|d| d.kinds[0].name = "..".into()),
        Box::new(|d| d.kinds[1].name = "pretrain".into()),
        Box::new(|d| d.types = vec!["corpus/x".into()]),
        Box::new(|d| d.types = vec!["corpus".into()]),
        Box::new(move |d| d.kinds[2].outputs.push(port("tokenizer", &["tokenizer"]))),
        Box::new(move |d| d.kinds[2].outputs[0] = port("tokenizer", &["table", "report"])),
    ];
    let errors: Vec<_> = changes.iter().map(|change| load(GOOD, change).unwrap_err()).collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
        provider 7:16 provider `fake` offers the kind `tokenizer` with the input `../corpus`, which cannot be a name; this is an error of the provider
        provider 7:16 provider `fake` offers the kind `tokenizer` with the output `a/b`, which cannot be a name; this is an error of the provider
        provider 7:16 provider `fake` offers the kind `..`, which cannot be the name of a kind; this is an error of the provider
        provider 7:16 provider `fake` offers the kind `pretrain` twice; this is an error of the provider
        provider 7:16 provider `fake` declares the artifact type `corpus/x`, which cannot be a name; this is an error of the provider
        provider 7:16 provider `fake` offers the kind `pretrain` with the input `tokenizer` of the artifact type `tokenizer`, which it does not declare; this is an error of the provider
        provider 7:16 provider `fake` offers the kind `tokenizer` with the output `tokenizer` twice; this is an error of the provider
        provider 7:16 provider `fake` offers the kind `tokenizer` with the output `tokenizer`, which has 2 artifact types; this is an error of the provider
    "#);
}

#[test]
fn artifact_types_are_those_that_providers_declare() {
    let declare = |d: &mut Description| {
        d.types =
            ["corpus", "tokenizer", "checkpoint", "demonstrations", "embedding"].map(str::to_owned).into();
    };
    let text = |t: &str| format!("{GOOD}  more: {{ run: 'x > {{outputs.o}}', outputs: {{ o: {t} }} }}\n");
    assert_eq!(load(&text("embedding"), declare), Ok(()));
    assert_eq!(load(&text("rankings"), |_| {}), Ok(()), "a provider that does not declare has the old ones");
    insta::assert_snapshot!(load(&text("embeding"), declare).unwrap_err(), @r#"
        unknown-type 22:49 output `o` of stage `more` (kind command) has the type `embeding`, which does not exist (did you mean `embedding`?)
    "#);
    // Where the default provider is missing, a misspelt type is that and nothing else.
    let failing = &mut Fake { fails: true, ..Fake::default() };
    let all = load_with("stages: { a: { run: x, outputs: { o: tabel } } }", &options(), failing).unwrap_err();
    assert!(short(&all).starts_with("unknown-type 1:38"), "{}", short(&all));
    // A file of commands alone asks nobody for the types that are known, and the provider for others.
    let alone = |t: &str| format!("stages: {{ a: {{ run: 'x > {{outputs.o}}', outputs: {{ o: {t} }} }} }}");
    assert_eq!(load(&alone("embedding"), declare), Ok(()));
}
