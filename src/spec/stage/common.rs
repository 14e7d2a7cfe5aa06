//! The keys that every stage has.
//!
//! Purpose: environment, resources, retries and times of a stage.
//! Invariant: a value with an error counts as not given.
//! Must not know: kinds and commands.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use crate::spec::code::Code;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::document::node::{Data, Entry, Node};
use crate::spec::stage::read::Reader;
use crate::spec::types::{EnvValue, Resources, Spanned, Stage};
use crate::spec::{executors, fields, units};

const MOST_CPUS: u32 = 4096;
const MOST_GPUS: u32 = 1024;
const MOST_RETRIES: u32 = 1000;

impl Reader<'_, '_, '_> {
    /// What every kind of stage has.
    pub(super) fn common(&mut self, stage: &mut Stage) {
        stage.env = self.env();
        stage.retries = self.count("retries", MOST_RETRIES);
        stage.exact = self.exact();
        stage.timeout = self.duration("timeout");
        stage.linger = self.duration("linger");
        stage.resources = self.resources();
        stage.executor = self.executor();
    }

    fn count(&mut self, key: &str, most: u32) -> u32 {
        let Some(node) = self.node.get(key) else { return 0 };
        fields::count(node, most, format_args!("`{key}` of {}", self.owner), self.context.out).unwrap_or(0)
    }

    fn env(&mut self) -> BTreeMap<String, EnvValue> {
        let mut env = BTreeMap::new();
        for Entry { key, value } in self.section("env").unwrap_or_default() {
            let named = !key.text.is_empty() && !key.text.contains(['=', '\0']);
            match env_value(value).filter(|_| named) {
                Some(value) => _ = env.insert(key.text.clone(), value),
                None => {
                    let message = format!("`env.{}` of {} must be a string", key.text, self.owner);
                    let hint = "or `{ pass: NAME }` or `{ secret: NAME }`, with the name of a variable of the caller";
                    self.context.out.push_hint(Code::Type, value.span, message, Some(hint.to_owned()));
                }
            }
        }
        env
    }

    fn exact(&mut self) -> bool {
        let Some(node) = self.node.get("cache") else { return false };
        let what = format_args!("`cache` of {}", self.owner);
        fields::choice(node, &[("exact", true), ("normal", false)], what, self.context.out).unwrap_or(false)
    }

    fn duration(&mut self, key: &str) -> Option<Duration> {
        let node = self.node.get(key)?;
        fields::duration(node, format_args!("`{key}` of {}", self.owner), self.context.out)
    }

    fn executor(&mut self) -> Option<Spanned<String>> {
        let node = self.node.get("executor")?;
        executors::name(node, format_args!("`executor` of {}", self.owner), self.context.out)
    }

    fn resources(&mut self) -> Resources {
        let entries = self.section("resources").unwrap_or_default();
        let owner = format_args!("`resources` of {}", self.owner);
        let out = &mut *self.context.out;
        fields::only(entries, &["cpus", "memory", "gpus", "time"], owner, out);
        let mut resources = Resources { cpus: 1, ..Resources::default() };
        for Entry { key, value } in entries {
            let what = format_args!("`{}` in {owner}", key.text);
            match key.text.as_str() {
                "cpus" => resources.cpus = fields::count(value, MOST_CPUS, what, out).unwrap_or(1),
                "gpus" => resources.gpus = fields::count(value, MOST_GPUS, what, out).unwrap_or(0),
                "memory" => resources.memory = memory(value, what, out),
                "time" => resources.time = fields::time_limit(value, what, out),
                _ => {}
            }
        }
        resources
    }
}

/// Bytes of memory. A number without a unit is one of bytes, and so hardly ever what was meant.
fn memory(node: &Node, what: impl Display, out: &mut Diagnostics) -> u64 {
    const LEAST: u64 = 1 << 20;
    let text = node.scalar().unwrap_or_default();
    match units::parse_size(&text) {
        Some(bytes) if bytes == 0 || bytes >= LEAST => bytes,
        Some(bytes) => {
            let hint = format!("write the unit, such as `{text}MiB`");
            out.push_hint(Code::Range, node.span, format!("{what} is {bytes} bytes"), Some(hint));
            0
        }
        None => {
            let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let hint = text.ends_with(['G', 'M', 'K', 'T']).then(|| {
                let unit = &text[number.len()..];
                format!("write `{number}{unit}iB` or `{number}{unit}B`")
            });
            out.push_hint(Code::Type, node.span, format!("{what} must be a size such as `4GiB`"), hint);
            0
        }
    }
}

/// A scalar as it is written, or a variable of the caller.
fn env_value(node: &Node) -> Option<EnvValue> {
    if let Data::Map(entries) = &node.data {
        let [Entry { key, value }] = entries.as_slice() else { return None };
        let name = value.as_str().filter(|name| !name.is_empty() && !name.contains(['=', '\0']))?.to_owned();
        return match key.text.as_str() {
            "pass" => Some(EnvValue::Pass(name)),
            "secret" => Some(EnvValue::Secret(name)),
            _ => None,
        };
    }
    let text = node.scalar().filter(|text| !text.contains('\0'))?;
    Some(EnvValue::Literal(text.into_owned()))
}
