//! `kiln key`.
//!
//! Purpose: makes a key that signs results, lists the keys, and trusts one of a builder or no
//! longer.
//! Invariant: no private key is printed; a key that exists is never replaced.
//! Must not know: what is signed.

use serde_json::json;

use crate::cas::trust::{KeyError, PrivateKey, PublicKey};
use crate::cli::args::{KeyArgs, KeyCommand, KeyDistrustArgs, KeyNewArgs, KeyTrustArgs};
use crate::cli::printer::{FAINT, Printer, paint};
use crate::cli::remotes::config;
use crate::cli::{CliError, Exit};
use crate::report::text::{pad, printable, widest};

/// Runs the command.
///
/// # Errors
/// A wrong call or file; the disk refuses.
pub fn run(args: &KeyArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    match &args.command {
        KeyCommand::New(args) => new(args, printer),
        KeyCommand::List(args) => list(args.json, printer),
        KeyCommand::Trust(args) => trust(args, printer),
        KeyCommand::Distrust(args) => distrust(args, printer),
    }
}

fn new(args: &KeyNewArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    if !is_name(&args.name) || args.name.starts_with('.') {
        return Err(CliError::Call(format!(
            "`{}` is not a name for a key: letters, digits, - and _",
            args.name
        )));
    }
    let file = config::key_file(&args.name)
        .ok_or_else(|| CliError::Call("there is no home folder; name a file by KILN_CONFIG".into()))?;
    let key = PrivateKey::generate().map_err(CliError::io("make a key"))?;
    key.save(&file).map_err(|e| match e {
        KeyError::Io { .. } => CliError::Failed(e.to_string()),
        _ => CliError::Call(e.to_string()),
    })?;
    printer.line(format!("The private key is in {}; keep it to yourself.", file.display()));
    printer.line(match args.name.as_str() {
        "default" => "From now on it signs what is made here.".to_owned(),
        _ => format!("It signs where KILN_SIGNING_KEY={} is set.", file.display()),
    });
    printer.line("Whoever trusts your results runs:");
    printer.line(format!("  kiln key trust NAME {}", key.public()));
    Ok(Exit::Ok)
}

fn list(json: bool, printer: &mut Printer) -> Result<Exit, CliError> {
    let user = config::read()?;
    let own = config::signing_key()?.map(|key| key.public());
    let mut all: Vec<(&str, PublicKey, &str)> = own.iter().map(|key| ("you", *key, "signs here")).collect();
    all.extend(user.trust.iter().map(|(name, key)| (name.as_str(), *key, "trusted")));
    if json {
        let one = |(name, key, what): &(&str, PublicKey, &str)| json!({ "name": name, "key": key.to_string(), "id": key.id(), "use": what });
        let keys: Vec<_> = all.iter().map(one).collect();
        let answer = json!({ "schema": "kiln.keys/1", "keys": keys, "required": user.demands_signatures });
        printer.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let width = widest(all.iter().map(|(name, ..)| *name), 30);
    for (name, key, what) in &all {
        printer.line(format!("{}  {key}  {}", pad(&printable(name), width), paint(FAINT, what)));
    }
    if all.is_empty() {
        printer.line("There are no keys; `kiln key new` makes one, `kiln key trust NAME KEY` trusts one.");
    }
    printer.line(if user.demands_signatures {
        "Results count only with a signature by one of these."
    } else {
        "Results without a signature count, too, unless a pipeline has `signatures: required`."
    });
    Ok(Exit::Ok)
}

fn trust(args: &KeyTrustArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let key: PublicKey = args.key.parse().map_err(|e: KeyError| CliError::Call(e.to_string()))?;
    let (file, user) = config::edit(|user| {
        if let Some(known) = user.trust.get(&args.name).filter(|known| **known != key) {
            return Err(CliError::Call(format!(
                "`{}` is the name of another key, {known}; use another name, or run `kiln key distrust {}` \
                 first",
                args.name, args.name
            )));
        }
        user.trust.insert(args.name.clone(), key);
        user.demands_signatures |= args.require;
        Ok(())
    })?;
    printer.line(format!("{} is trusted as {}: {}", key, printable(&args.name), file.display()));
    if !user.demands_signatures {
        printer.line(
            "Results without a signature count, too, unless a pipeline has `signatures: required`; `--require` \
             requires them everywhere.",
        );
    }
    Ok(Exit::Ok)
}

fn distrust(args: &KeyDistrustArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let mut removed = None;
    let (file, user) = config::edit(|user| {
        removed = user.trust.remove(&args.name);
        match removed {
            Some(_) => Ok(()),
            None => Err(CliError::Call(format!(
                "no key is trusted as `{}`; `kiln key list` lists the keys",
                printable(&args.name)
            ))),
        }
    })?;
    let key = removed.map(|key| key.to_string()).unwrap_or_default();
    printer.line(format!("{key} is no longer trusted as {}: {}", printable(&args.name), file.display()));
    if user.demands_signatures && user.trust.is_empty() {
        printer.line("Signatures are required, and no key of others is trusted: only what you sign counts.");
    }
    Ok(Exit::Ok)
}
