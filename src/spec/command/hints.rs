//! What can be said when a command has failed.
//!
//! Purpose: files that a command names and that its stage did not declare; what exit codes of shells mean.
//! Invariants: it only says what may help, never decides; it does not look outside of the project.
//! Must not know: how a command was started.

use std::path::{Component, Path};

use super::shell::Dialect;
use crate::spec::types::Run;

/// The words of a command that name files or folders of the project which were not declared, in their order: the
/// lines to add to `uses`. The command starts in `cwd`. `declared` holds paths and globs relative to the project root.
pub fn undeclared_files(run: &Run, root: &Path, cwd: Option<&str>, declared: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in words(run) {
        let Some(path) = relative(word) else { continue };
        let path = cwd.map_or(path.clone(), |cwd| format!("{}/{path}", cwd.trim_end_matches('/')));
        let known = declared.iter().any(|declared| covers(declared, &path));
        if !known && !out.contains(&path) && exists(root, &path) {
            out.push(path);
        }
    }
    out
}

/// Words that may be paths: what stands between blanks, quotes, operators and equals signs.
fn words(run: &Run) -> Vec<&str> {
    let apart = |c: char| c.is_whitespace() || "\"'`;|&()<>=,:$".contains(c);
    match run {
        Run::Script(script) => script.split(apart).collect(),
        Run::Exec(list) => list
            .iter()
            .flat_map(|word| [Some(word.as_str()), word.split_once('=').map(|(_, value)| value)])
            .flatten()
            .collect(),
    }
}

/// A word as a plain path below the root.
fn relative(word: &str) -> Option<String> {
    if word.is_empty() || word.len() > 1000 || word.contains(['{', '}', '\0']) {
        return None;
    }
    let mut parts = Vec::new();
    for component in Path::new(word).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn covers(declared: &str, path: &str) -> bool {
    let declared = declared.trim_start_matches("./").trim_end_matches('/');
    let below = path.strip_prefix(declared).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below
        || declared == "."
        || (declared.contains(['*', '?', '['])
            && glob::Pattern::new(declared).is_ok_and(|pattern| pattern.matches(path)))
}

fn exists(root: &Path, path: &str) -> bool {
    if !path.contains(['*', '?', '[']) {
        return root.join(path).symlink_metadata().is_ok();
    }
    // A glob over many levels could take long.
    let Some(root) = root.to_str().filter(|_| !path.contains("**")) else { return false };
    let pattern = format!("{}/{path}", glob::Pattern::escape(root));
    glob::glob(&pattern).is_ok_and(|mut found| found.next().is_some())
}

/// What an exit code of a command probably means, as a fragment of a message.
pub fn explain_exit(code: i32, run: &Run, shell: &[String]) -> Option<String> {
    let shell = matches!(run, Run::Script(_)).then(|| Dialect::of(shell)).flatten();
    match code {
        126 => Some(
            "a program was found but cannot be executed; make it executable (`chmod +x`), or name its \
             interpreter before it (`python3 file.py`)"
                .to_owned(),
        ),
        127 => Some(
            "a program was not found; is it on PATH, and is a script of the project listed under `uses`?"
                .to_owned(),
        ),
        141 if shell.is_some() => Some(broken_pipe(run)),
        _ => None,
    }
}

fn broken_pipe(run: &Run) -> String {
    let reader = match run {
        Run::Script(script) => early_reader(script),
        Run::Exec(_) => None,
    };
    let reader = reader.map_or_else(|| "the next program".to_owned(), |name| format!("`{name}`"));
    format!(
        "a program in a pipe wrote on after {reader} had stopped reading (SIGPIPE), which `pipefail` counts as a \
         failure; where that is meant, write `(producer || test $? = 141) | reader`"
    )
}

/// The first program of a script that reads from a pipe and is known to stop early.
fn early_reader(script: &str) -> Option<&str> {
    let mut commands = script.split('|').skip(1).filter_map(|command| {
        let mut words = command.split_whitespace();
        Some((words.next()?, words))
    });
    let found = commands.find(|(name, words)| {
        let has = |wanted: &str| words.clone().any(|word| word.starts_with('-') && word.contains(wanted));
        match name.rsplit('/').next().unwrap_or(name) {
            "head" => true,
            "grep" | "egrep" | "fgrep" | "rg" => has("q") || has("m"),
            "sed" | "awk" | "gawk" | "mawk" => words.clone().any(|w| w.contains('q') || w.contains("exit")),
            _ => false,
        }
    });
    found.map(|(name, _)| name)
}
