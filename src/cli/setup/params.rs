//! `kiln params`.
//!
//! Purpose: the kinds of the default provider, and of one of them its inputs, outputs and params with their defaults.
//! Invariant: what is shown is what the provider describes.
//! Must not know: any pipeline file, what a param means.

use serde_json::{Map, Value, json};

use crate::cli::args::{Common, ParamsArgs};
use crate::cli::context::open_store;
use crate::cli::printer::{FAINT, Printer, STRONG, paint};
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::protocol::{Kind, Port};
use crate::provider::Providers;
use crate::report::text::table;
use crate::spec::diagnostic::{did_you_mean, list_names};

/// Schemas in schemas are not followed deeper.
const DEEPEST: usize = 4;

/// Runs the command.
///
/// # Errors
/// There is no provider, or no such kind.
pub fn run(common: &Common, args: &ParamsArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let store = open_store(common, &find_root(None)?)?;
    let mut providers = Providers::new(&store);
    let provider = providers.find(None).map_err(|e| CliError::Failed(e.to_string()))?;
    let kinds = &provider.description.kinds;
    let Some(wanted) = &args.kind else {
        let rows: Vec<_> = kinds.iter().map(|kind| vec![kind.name.clone(), kind.summary.clone()]).collect();
        match args.json {
            true => printer.json(&json!({ "schema": "kiln.params/1", "kinds": kinds }))?,
            false => table(&rows).iter().for_each(|line| printer.line(line)),
        }
        return Ok(Exit::Ok);
    };
    let Some(kind) = kinds.iter().find(|kind| kind.name == *wanted) else {
        let names = || kinds.iter().map(|kind| kind.name.as_str());
        let hint =
            did_you_mean(wanted, names()).unwrap_or_else(|| format!("there is: {}", list_names(names())));
        return Err(CliError::Call(format!("there is no kind `{wanted}`; {hint}")));
    };
    match args.json {
        true => printer.json(&json!({ "schema": "kiln.params/1", "kinds": [kind] }))?,
        false => to_text(kind, printer),
    }
    Ok(Exit::Ok)
}

fn to_text(kind: &Kind, printer: &mut Printer) {
    printer.line(format!("{}: {}", paint(STRONG, &kind.name), kind.summary));
    for (what, ports) in [("inputs", &kind.inputs), ("outputs", &kind.outputs)] {
        printer.line(format!("\n{what}"));
        table(&ports.iter().map(port).collect::<Vec<_>>()).iter().for_each(|line| printer.line(line));
    }
    let mut rows = Vec::new();
    walk(&kind.params, &kind.params, "", &mut rows);
    if !rows.is_empty() {
        printer.line("\nparams, with their defaults");
        table(&rows).iter().for_each(|line| printer.line(line));
    }
}

fn port(port: &Port) -> Vec<String> {
    let optional = if port.optional { " (may be left out)" } else { "" };
    vec![format!("  {}", port.name), port.types.join(" or "), format!("{}{optional}", port.summary)]
}

/// The properties of a schema, each with its own below it.
fn walk(root: &Value, schema: &Value, prefix: &str, rows: &mut Vec<Vec<String>>) {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = schema.get("required").and_then(Value::as_array);
    for (property_name, property) in properties {
        let name = format!("{prefix}{property_name}");
        let target = resolved(root, property);
        let is_needed = required.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(property_name)));
        let default = match property.get("default") {
            Some(Value::String(text)) => text.clone(),
            Some(value) if !value.is_object() => value.to_string(),
            None if is_needed => "must be given".to_owned(),
            _ => String::new(),
        };
        let about = property.get("description").or_else(|| target.get("description"));
        let about = about.and_then(Value::as_str).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
        let choices = choices(target);
        let choices = if choices.is_empty() { choices } else { format!(" ({choices})") };
        rows.push(vec![format!("  {name}"), default, paint(FAINT, about.join(" ") + &choices)]);
        if name.matches('.').count() < DEEPEST {
            walk(root, target, &format!("{name}."), rows);
        }
    }
}

/// What a schema refers to; of a choice between a schema and nothing, the schema.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let all = |key: &str| schema.get(key).and_then(Value::as_array);
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
        return root.get("$defs").and_then(|defs| defs.get(name)).unwrap_or(schema);
    }
    let is_some = |one: &&Value| one.get("type").and_then(Value::as_str) != Some("null");
    match all("anyOf").into_iter().flatten().find(is_some) {
        Some(one) if one.get("$ref").is_some() => resolved(root, one),
        Some(one) => one,
        None => schema,
    }
}

/// The words that a schema takes.
fn choices(schema: &Value) -> String {
    let of = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    let words = of("oneOf").filter_map(|one| one.get("const")?.as_str());
    words.chain(of("enum").filter_map(Value::as_str)).collect::<Vec<_>>().join(", ")
}
