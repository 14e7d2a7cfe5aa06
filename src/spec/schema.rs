//! The JSON Schema of the pipeline file, for editors.
//!
//! Purpose: what `kiln schema` prints: one branch a kind, with the docs of its params and inputs.
//! Invariant: made from the same lists and descriptions that the checks read; fields that never
//! enter a stage's key say so.
//! Must not know: how files are read.

use serde_json::{Map, Value, json};

use crate::protocol::{ARTIFACT_TYPES, Description, Kind, Port};

const NEVER_HASHED: &str = "Never part of the stage's key: changing it makes nothing stale.";

/// The schema (draft 2020-12) of a pipeline file for the kinds of these providers. Of a kind that
/// several offer, the first one's is shown.
pub fn pipeline_schema(descriptions: &[Description]) -> Value {
    let mut defs = Map::new();
    let mut branches = vec![reference("stage.command")];
    defs.insert("stage.command".to_owned(), command_branch());
    for kind in descriptions.iter().flat_map(|d| &d.kinds) {
        let name = format!("stage.{}", kind.name);
        if !defs.contains_key(&name) {
            branches.push(reference(&name));
            let branch = kind_branch(kind, &mut defs);
            defs.insert(name, branch);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Kiln pipeline",
        "type": "object",
        "required": ["stages"],
        "additionalProperties": false,
        "properties": {
            "pipeline": { "type": "string", "description": "The pipeline's name; the file's, when left out." },
            "params": {
                "type": "object",
                "description": "Defaults shared by all stages: a stage takes those that its kind has and that it does not set; commands take those that `run` names.",
            },
            "sources": {
                "type": "object",
                "description": "Inputs that no stage makes, by name.",
                "additionalProperties": source(),
            },
            "stages": {
                "type": "object",
                "description": "The stages, by name.",
                "additionalProperties": { "oneOf": branches },
            },
            "providers": {
                "type": "array",
                "items": { "type": "string" },
                "description": "Programs that offer more kinds: a path from the project root, or a name on PATH.",
            },
        },
        "$defs": defs,
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn artifact_type() -> Value {
    json!({ "enum": ARTIFACT_TYPES })
}

fn source() -> Value {
    json!({
        "oneOf": [
            { "type": "string", "description": "A file, a folder or a glob, from the project root." },
            {
                "type": "object",
                "required": ["path"],
                "additionalProperties": false,
                "properties": {
                    "path": { "type": "string", "description": "A file, a folder or a glob, from the project root." },
                    "type": artifact_type(),
                },
            },
        ],
    })
}

/// What every stage has.
fn common() -> Map<String, Value> {
    let count = |description: String| json!({ "type": "integer", "minimum": 0, "description": description });
    let properties = json!({
        "env": {
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
            "description": "Environment variables of the stage's process; part of its key.",
        },
        "cache": {
            "enum": ["normal", "exact"],
            "default": "normal",
            "description": "`exact` puts the numerics (backend, library version, device class, threads) into the key.",
        },
        "resources": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "cpus": count(format!("Cores; 0 means all. {NEVER_HASHED}")),
                "memory": { "type": ["string", "integer"], "description": format!("Memory, such as `4GiB`. {NEVER_HASHED}") },
            },
            "description": format!("What the stage needs. {NEVER_HASHED}"),
        },
        "retries": count(format!("How often it runs again after a failure. {NEVER_HASHED}")),
        "timeout": {
            "type": ["string", "number"],
            "description": format!("After how long it is stopped, such as `90s` or `2h`. {NEVER_HASHED}"),
        },
    });
    match properties {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn command_branch() -> Value {
    let mut properties = common();
    let names = json!({ "type": "string", "description": "A source, a stage, or `stage.output`." });
    properties.insert("kind".to_owned(), json!({ "const": "command" }));
    properties.insert("inputs".to_owned(), json!({ "type": "object", "additionalProperties": names }));
    properties.insert(
        "params".to_owned(),
        json!({ "type": "object", "description": "Values for `{params.x}`; part of the key." }),
    );
    properties.insert(
        "run".to_owned(),
        json!({
            "type": ["string", "array"],
            "items": { "type": ["string", "number", "boolean"] },
            "description": "A line for `/bin/sh -c`, or a list of words to execute. `{inputs.x}`, `{outputs.x}` and `{params.x}` are filled in; `{{` and `}}` are plain braces. Part of the key.",
        }),
    );
    properties.insert(
        "uses".to_owned(),
        json!({ "type": ["string", "array"], "items": { "type": "string" }, "description": "Files hashed with the command." }),
    );
    properties.insert(
        "outputs".to_owned(),
        json!({ "type": "object", "additionalProperties": artifact_type(), "description": "Name and type of what the command makes; the first is the default one." }),
    );
    json!({
        "type": "object",
        "description": "A command.",
        "required": ["run"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn kind_branch(kind: &Kind, defs: &mut Map<String, Value>) -> Value {
    let mut properties = common();
    properties.insert("kind".to_owned(), json!({ "const": kind.name }));
    properties.insert("inputs".to_owned(), inputs(&kind.inputs));
    properties.insert("params".to_owned(), params(kind, defs));
    let mut required = vec!["kind"];
    if kind.inputs.iter().any(|port| !port.optional) {
        required.push("inputs");
    }
    json!({
        "type": "object",
        "description": kind.summary,
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn inputs(ports: &[Port]) -> Value {
    let describe = |port: &Port| {
        let takes = format!("A source, a stage, or `stage.output` of type {}.", port.types.join(" or "));
        let description = [port.summary.as_str(), &takes].join(" ");
        (port.name.clone(), json!({ "type": "string", "description": description.trim() }))
    };
    let required: Vec<_> = ports.iter().filter(|port| !port.optional).map(|port| &port.name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": ports.iter().map(describe).collect::<Map<_, _>>(),
    })
}

/// The params of a kind; its definitions move to those of the file under names of their own.
fn params(kind: &Kind, defs: &mut Map<String, Value>) -> Value {
    let mut schema = kind.params.clone();
    if let Value::Object(map) = &mut schema {
        map.remove("$schema");
        map.remove("title");
        // The params of the pipeline may give them.
        map.remove("required");
        if map.contains_key("properties") {
            map.entry("additionalProperties").or_insert(Value::Bool(false));
        }
        if let Some(Value::Object(inner)) = map.remove("$defs") {
            for (name, mut definition) in inner {
                rename(&mut definition, &kind.name);
                defs.insert(format!("{}.{name}", kind.name), definition);
            }
        }
    }
    rename(&mut schema, &kind.name);
    schema
}

fn rename(schema: &mut Value, kind: &str) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => {
                        *text = text.replace("#/$defs/", &format!("#/$defs/{kind}."));
                    }
                    value => rename(value, kind),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, kind)),
        _ => {}
    }
}
