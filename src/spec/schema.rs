//! The JSON Schema of the pipeline file, for editors.
//!
//! Purpose: what `kiln schema` prints: one branch a kind, with the docs of its params and inputs.
//! Invariant: made from the same lists and descriptions that the checks read; fields that never
//! enter a stage's key say so.
//! Must not know: how files are read.

use serde_json::{Map, Value, json};

use crate::protocol::{ARTIFACT_TYPES, Description, Kind, Port};
use crate::spec::catalog;

const NEVER_HASHED: &str = "Never part of the stage's key: changing it makes nothing stale.";

/// The schema (draft 2020-12) of a pipeline file for the kinds of these providers. Of a kind that
/// several offer, the first one's is shown.
pub fn pipeline_schema(descriptions: &[Description]) -> Value {
    let mut defs = Map::new();
    let mut branches = vec![reference("stage.command")];
    let types = artifact_type(descriptions);
    defs.insert("stage.command".to_owned(), command_branch(&types));
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
                "additionalProperties": source(&types),
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
            "remotes": {
                "type": "object",
                "additionalProperties": { "type": "string" },
                "description": "Shared caches by name, as URLs: s3://, gs://, az://, https:// or file://. They are only read; `kiln remote add` in your own file allows writing. Never part of a key.",
            },
            "executors": {
                "type": "object",
                "additionalProperties": executor(),
                "description": "Clusters by name; `local` is this machine. Never part of a key.",
            },
            "executor": {
                "type": "string",
                "description": format!("Where stages run that do not say so themselves: `local`, `slurm`, `ray`, or the name of one of `executors`. {NEVER_HASHED}"),
            },
            "signatures": {
                "enum": ["required", "optional"],
                "description": "`required`: a recorded result counts only with a signature by a key that you trust (`kiln key trust`).",
            },
            "ignore": {
                "type": ["array", "string"],
                "items": { "type": "string" },
                "description": "What sources and `uses` leave out: lines in the syntax of gitignore, beside the built-in ones and `.kilnignore`.",
            },
        },
        "$defs": defs,
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// The artifact types that these providers declare; without providers, those that are usual.
fn artifact_type(descriptions: &[Description]) -> Value {
    let mut types = catalog::types_of(descriptions.iter());
    if descriptions.is_empty() {
        types.extend(ARTIFACT_TYPES.map(str::to_owned));
    }
    json!({ "enum": types })
}

/// A cluster.
fn executor() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let time = |description: &str| json!({ "type": ["string", "number"], "description": description });
    let lines = |description: &str| json!({ "type": ["string", "array"], "items": { "type": "string" }, "description": description });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "kind": { "enum": ["slurm", "ray"] },
            "address": text("Where Ray listens; `http://127.0.0.1:8265` by default."),
            "partition": text("The partition of the jobs."),
            "account": text("The account that pays for them."),
            "qos": text("Their quality of service."),
            "gres": text("The generic resources of each job, such as `gpu:a100:1`; from `gpus` of the stage by default; a stage with `gpus` says how many, this says of which kind."),
            "constraint": text("The features that a node must have."),
            "time": time("The time limit of jobs whose stage has no `time` under `resources`, such as `4h`."),
            "options": lines("More options of `sbatch`."),
            "prologue": lines("Lines of shell that run on the node first, such as `module load cuda`. One that fails ends the job."),
            "kiln": text("The program on the node; by default that of the runner, by its path."),
            "store": text("The store on the node, such as `/scratch/$USER/kiln`; by default that of the runner, on a file system that the nodes share."),
            "remote": text("The remote by which the runner and its jobs exchange results, where they share no store."),
            "max_jobs": { "type": "integer", "minimum": 1, "description": "The most jobs of a run that are queued or running at a time; 100 by default." },
            "short": time("Stages that took less the last time run where the runner is, unless they name this executor themselves, need more than is there, or the run detaches; 30 s by default."),
        },
    })
}

fn source(types: &Value) -> Value {
    let digest = json!({ "type": "string", "pattern": "^(sha256:)?[0-9a-fA-F]{64}$" });
    let url = "Where it is: https://, http://, s3://, gs:// or az://. It is brought when a stage needs it; never part of a key.";
    let sha256 = "The SHA-256 of the file; for a folder of files below the URL, that of each by its path.";
    let path = json!({ "type": "string", "description": "A file, a folder or a glob, from the project root; it may not contain the store." });
    json!({
        "oneOf": [
            path,
            {
                "type": "object",
                "required": ["path"],
                "additionalProperties": false,
                "properties": { "path": path, "type": types },
            },
            {
                "type": "object",
                "required": ["url", "sha256"],
                "additionalProperties": false,
                "properties": {
                    "url": { "type": "string", "description": url },
                    "sha256": {
                        "description": sha256,
                        "oneOf": [digest, { "type": "object", "additionalProperties": digest, "minProperties": 1 }],
                    },
                    "type": types,
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
            "additionalProperties": { "oneOf": [
                { "type": ["string", "number", "boolean", "null"] },
                variable("pass", "The caller's variable of this name; its value is not part of the key."),
                variable("secret", "The same; its value is neither stored nor printed."),
            ] },
            "description": "Environment variables of the stage's process, as they are written; part of its key.",
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
                "gpus": count(format!("GPUs. {NEVER_HASHED}")),
                "memory": { "type": ["string", "integer"], "description": format!("Memory, such as `4GiB`. {NEVER_HASHED}") },
                "time": { "type": ["string", "number"], "description": format!("The time limit of its job on a cluster, such as `8h`. {NEVER_HASHED}") },
            },
            "description": format!("What the stage needs. {NEVER_HASHED}"),
        },
        "executor": {
            "type": "string",
            "description": format!("Where it runs: `local`, `slurm`, `ray`, or the name of one of `executors`. {NEVER_HASHED}"),
        },
        "retries": count(format!("How often it runs again after a failure. {NEVER_HASHED}")),
        "timeout": {
            "type": ["string", "number"],
            "description": format!("After how long it is stopped, such as `90s` or `2h`. {NEVER_HASHED}"),
        },
        "linger": {
            "type": ["string", "number"],
            "description": format!("How long its other processes may outlive the first one before the stage fails; 30 s by default. {NEVER_HASHED}"),
        },
    });
    match properties {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn variable(key: &str, description: &str) -> Value {
    json!({
        "type": "object",
        "required": [key],
        "additionalProperties": false,
        "properties": { key: { "type": "string", "description": description } },
    })
}

fn command_branch(types: &Value) -> Value {
    let mut properties = common();
    properties.insert("kind".to_owned(), json!({ "const": "command" }));
    for own in [command_ports(types), command_run(), command_folder()] {
        properties.extend(own.as_object().cloned().unwrap_or_default());
    }
    json!({
        "type": "object",
        "description": "A command.",
        "required": ["run"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn command_ports(types: &Value) -> Value {
    let names = json!({ "type": "string", "description": "A source, a stage, or `stage.output`." });
    json!({
        "inputs": { "type": "object", "additionalProperties": { "oneOf": [names, {
            "type": "object",
            "required": ["from"],
            "additionalProperties": false,
            "properties": {
                "from": names,
                "at": { "type": "string", "description": "Where the command finds it, from the project root; `inputs/NAME` by default. Part of the key." },
            },
        }] } },
        "outputs": {
            "type": "object",
            "additionalProperties": { "oneOf": [types, {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "type": types,
                    "path": { "type": "string", "description": "Where the command leaves it, from its execution folder; `outputs/NAME` by default. Part of the key." },
                },
            }] },
            "description": "Name and type of what the command makes; the first is the default one.",
        },
    })
}

fn command_run() -> Value {
    json!({
        "params": { "type": "object", "description": "Values for `{params.x}` and `$KILN_PARAM_x`, as they are written; part of the key." },
        "run": {
            "type": ["string", "array"],
            "items": { "type": ["string", "number", "boolean", "null"] },
            "description": "A script for `shell`, or a list of words to execute. `{inputs.x}`, `{outputs.x}` and `{params.x}` are filled in; `{{` and `}}` are plain braces; `${x}` belongs to the shell. Part of the key.",
        },
        "shell": {
            "type": ["string", "array"],
            "items": { "type": "string" },
            "default": "bash -eo pipefail",
            "description": "The shell of a script: a program and its arguments. Part of the key.",
        },
    })
}

/// Where a command runs.
fn command_folder() -> Value {
    json!({
        "uses": {
            "type": ["string", "array"],
            "items": { "type": "string" },
            "description": "Files, folders and globs of the project that the command reads; they are in its execution folder, and part of the key.",
        },
        "cwd": { "type": "string", "description": "The folder that the command starts in, below its execution folder. Part of the key." },
        "sandbox": {
            "enum": ["folder", "strict", "off"],
            "default": "folder",
            "description": "`folder`: the command runs in a folder with what it declared. `strict`: the rest of the project and the store are shut off as well. `off`: it runs in the project root, and no reproducibility is promised; part of the key.",
        },
        "platform": { "const": "any", "description": "`any` takes the operating system and architecture out of the key." },
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
        let names = json!({ "type": "string", "description": description.trim() });
        let from = json!({ "type": "object", "required": ["from"], "additionalProperties": false, "properties": { "from": names } });
        (port.name.clone(), json!({ "oneOf": [names, from] }))
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
