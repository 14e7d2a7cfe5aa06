//! What providers say.

use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::text::load;
use crate::executor::local::{EventReader, Lines, Sink};
use crate::executor::log::Log;
use crate::protocol::{ConverseRequest, Description, Event, StageRequest, Turn};
use crate::provider::parse_description;
use crate::sched::StageEvent;

/// The longest line that is handed on.
const LONGEST_LINE: usize = (1 << 20) + (1 << 16);

/// The lines of a stage, in two pieces; each line as whatever crosses the border of a process.
pub fn events(bytes: &[u8]) {
    let emit = |event: StageEvent| {
        if let StageEvent::Metric { values, .. } = event {
            assert!(values.values().all(|value| value.is_finite()));
        }
    };
    let (sink, mut reader, mut lines) =
        (Sink { log: log(), emit: &emit }, EventReader::default(), Lines::default());
    let mut on_line = |line: &[u8]| {
        assert!(line.len() <= LONGEST_LINE && !line.ends_with(b"\n"));
        reader.line(line, sink);
        same::<Event>(line);
        same::<StageRequest>(line);
        same::<ConverseRequest>(line);
        same::<Turn>(line);
    };
    let (one, other) = bytes.split_at(bytes.len() / 2);
    lines.push(one, &mut on_line);
    lines.push(other, &mut on_line);
    lines.finish(&mut on_line);
    reader.finish(sink);
    assert!(reader.done.iter().flatten().all(|(_, value)| value.is_finite()));
}

/// What can be read and is written again is the same.
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        assert_eq!(serde_json::from_str::<T>(&serde_json::to_string(&value).unwrap()).unwrap(), value);
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| Log::open(Path::new("/dev/null")).unwrap())
}

/// The answer to `describe`; pipelines with its kinds, and with values of every type for its params.
pub fn describe(bytes: &[u8]) {
    let Ok(description) = parse_description(Path::new("provider"), bytes) else { return };
    let text = serde_json::to_string(&description).unwrap();
    assert_eq!(parse_description(Path::new("provider"), text.as_bytes()).unwrap(), description);
    let values = [
        json!(1),
        json!(-1.5),
        json!("x"),
        json!([1]),
        json!({ "a": { "b": [] } }),
        json!(true),
        Value::Null,
    ];
    for value in values {
        load(&pipeline_of(&description, &value).to_string(), Some(description.clone()));
    }
}

/// A pipeline with a stage of each kind, whose params all have this value.
fn pipeline_of(description: &Description, value: &Value) -> Value {
    let stages = description.kinds.iter().take(8).enumerate().map(|(n, kind)| {
        let names = kind.params.get("properties").and_then(Value::as_object).into_iter().flatten();
        let params: serde_json::Map<_, _> =
            names.take(16).map(|(name, _)| (name.clone(), value.clone())).collect();
        let inputs: serde_json::Map<_, _> =
            kind.inputs.iter().take(8).map(|port| (port.name.clone(), "s".into())).collect();
        (format!("stage-{n}"), json!({ "kind": kind.name, "params": params, "inputs": inputs }))
    });
    json!({ "sources": { "s": "seed.txt" }, "stages": stages.collect::<serde_json::Map<_, _>>() })
}
