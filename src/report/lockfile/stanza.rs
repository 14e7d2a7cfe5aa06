//! The stanza of one stage in a lock file.
//!
//! Purpose: key inputs and outputs as lines of YAML that people can compare and merge, and back.
//! Invariant: a stanza depends on the key inputs and the outputs alone: it has no time, no path of this
//! machine and no secret. One value is one line, but for a script of several lines.
//! Must not know: files, runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::cas::types::ArtifactRef;
use crate::digest::{Digest, canonical_json};

/// The fields of a stanza, such as `kind` and `params.steps`.
pub type Fields = BTreeMap<String, Value>;

/// The field with the action key.
pub const KEY: &str = "key";
/// The section with the digests of the outputs.
pub const OUTPUTS: &str = "outputs";
/// The key input with the names and types of the outputs; its own name is that of the section above.
const OUTPUT_TYPES: &str = "output_types";

/// The lines of a stanza, without the name of its stage.
pub fn write(key: Digest, key_inputs: &Value, outputs: &BTreeMap<String, ArtifactRef>) -> String {
    let mut text = String::new();
    for (name, value) in fields_of(Some(key), key_inputs) {
        write_field(&mut text, 4, &name, &value);
    }
    let digest =
        |(name, artifact): (&String, &ArtifactRef)| (name.clone(), artifact.digest.to_string().into());
    write_field(&mut text, 4, OUTPUTS, &Value::Object(outputs.iter().map(digest).collect()));
    text
}

/// The fields of a stage as its stanza would have them, without its outputs.
pub fn fields(key: Option<Digest>, key_inputs: &Value) -> Fields {
    flat(fields_of(key, key_inputs).collect())
}

/// The fields of a stanza that was written by [`write`]; lines that are none are left out.
pub fn read(text: &str) -> Fields {
    let mut top = Map::new();
    let mut section = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let Some((name, rest)) = split(line.trim_start_matches(' ')) else { continue };
        let value = match rest {
            "" if indent == 4 => {
                section.clone_from(&name);
                Value::Object(Map::new())
            }
            "|" | "|-" => {
                let mut block = String::new();
                while let Some(line) = lines.next_if(|line| is_deeper(line, indent)) {
                    block += line.get(indent + 2..).unwrap_or("");
                    block.push('\n');
                }
                if rest == "|-" {
                    block.pop();
                }
                block.into()
            }
            rest => serde_json::from_str(rest).unwrap_or_else(|_| rest.into()),
        };
        match top.get_mut(&section) {
            Some(Value::Object(entries)) if indent > 4 => drop(entries.insert(name, value)),
            _ => drop(top.insert(name, value)),
        }
    }
    flat(top)
}

/// A name as a YAML key.
pub fn yaml_key(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let letter = name.starts_with(|c: char| c.is_ascii_alphabetic());
    // Words that YAML reads as something else.
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if letter && name.chars().all(plain) && !word.contains(&name.to_ascii_lowercase().as_str()) {
        return name.to_owned();
    }
    Value::from(name).to_string()
}

/// The fields in the order of the file: the key, then what it is the digest of.
fn fields_of(key: Option<Digest>, key_inputs: &Value) -> impl Iterator<Item = (String, Value)> {
    let key = key.map(|key| (KEY.to_owned(), key.to_string().into()));
    let inputs = key_inputs.as_object().into_iter().flatten();
    let inputs = inputs.filter(|(name, value)| *name != "format" && !is_empty(value));
    key.into_iter().chain(inputs.map(|(name, value)| {
        let name = if name == OUTPUTS { OUTPUT_TYPES } else { name };
        (name.to_owned(), value.clone())
    }))
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// Objects become one field an entry.
fn flat(top: Map<String, Value>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in top {
        match value {
            Value::Object(entries) => {
                fields.extend(entries.into_iter().map(|(entry, value)| (format!("{name}.{entry}"), value)));
            }
            value => drop(fields.insert(name, value)),
        }
    }
    fields
}

fn write_field(text: &mut String, indent: usize, name: &str, value: &Value) {
    let name = yaml_key(name);
    // Writing to a text cannot fail.
    let _ = match value {
        Value::Object(entries) if indent == 4 => {
            let _ = writeln!(text, "{:indent$}{name}:", "");
            entries.iter().for_each(|(entry, value)| write_field(text, indent + 2, entry, value));
            return;
        }
        Value::String(script) if is_block(script) => {
            let chomp = if script.ends_with('\n') { "|" } else { "|-" };
            let _ = writeln!(text, "{:indent$}{name}: {chomp}", "");
            let below = indent + 2;
            script.lines().try_for_each(|line| match line {
                "" => writeln!(text),
                line => writeln!(text, "{:below$}{line}", ""),
            })
        }
        value => writeln!(text, "{:indent$}{name}: {}", "", canonical_json(value)),
    };
}

/// Whether a text can be a block of lines in YAML and come back as it was.
fn is_block(text: &str) -> bool {
    let odd = |c: char| {
        (c.is_control() && c != '\n') || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
    };
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
        && !text.contains(odd)
        && !text.lines().any(|line| !line.is_empty() && line.trim_start_matches(' ').is_empty())
}

fn is_deeper(line: &str, indent: usize) -> bool {
    line.is_empty() || line.len() - line.trim_start_matches(' ').len() > indent
}

/// `name: rest`, where the name may be a JSON string.
fn split(line: &str) -> Option<(String, &str)> {
    let (name, rest) = if line.starts_with('"') {
        let mut names = serde_json::Deserializer::from_str(line).into_iter::<String>();
        let name = names.next()?.ok()?;
        (name, line.get(names.byte_offset()..)?.strip_prefix(':')?)
    } else {
        let (name, rest) = line.split_once(':')?;
        (name.to_owned(), rest)
    };
    Some((name, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(text: &str) -> Digest {
        Digest::of_bytes(text.as_bytes())
    }

    #[test]
    fn fields_are_read_back_as_they_were_written() {
        let key_inputs = json!({
            "format": "kiln.key/2",
            "kind": "command",
            "env": {},
            "inputs": { "text": "ab/" },
            "params": { "rate": 1e-5, "deep": { "a": [1, null] }, "odd: name": "x\ny", "id": "007" },
            "run": "set -x\n\n  if true; then\n    cat {inputs.text}\n  fi\n",
            "outputs": { "o": "any" },
        });
        let artifact = ArtifactRef { digest: digest("o"), tree: false, executable: false, size: 1 };
        let text = write(digest("key"), &key_inputs, &BTreeMap::from([("o".to_owned(), artifact)]));
        let mut read = read(&text);
        assert_eq!(read.remove("outputs.o"), Some(digest("o").to_string().into()));
        assert_eq!(read, fields(Some(digest("key")), &key_inputs), "{text}");
        assert!(!text.contains("env"), "{text}");
        assert!(text.contains("    run: |\n      set -x\n\n        if true; then\n"), "{text}");
    }

    #[test]
    fn a_script_is_a_block_only_where_it_comes_back_as_it_was() {
        for script in
            ["a\nb", "a\nb\n", " a\nb", "a\n\nb\n", "a\n  \nb", "a\nb\n\n", "a\r\nb", "\na", "a", ""]
        {
            let text = write(digest("key"), &json!({ "run": script }), &BTreeMap::new());
            assert_eq!(read(&text).get("run"), Some(&Value::from(script)), "{text}");
            let yaml: Value = serde_yaml::from_str(&text).unwrap();
            assert_eq!(yaml["run"], script, "{text}");
        }
    }

    #[test]
    fn names_that_yaml_would_misread_are_quoted() {
        assert_eq!(yaml_key("sft-2"), "sft-2");
        assert_eq!(
            (yaml_key("no").as_str(), yaml_key("1").as_str(), yaml_key("a[b=1]").as_str()),
            ("\"no\"", "\"1\"", "\"a[b=1]\"")
        );
    }
}
