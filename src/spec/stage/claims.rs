//! The places of an execution folder.
//!
//! Purpose: finds two claims on one place, or one inside another: inputs, outputs and files under `uses`.
//! Invariant: two claims of `uses` are no conflict, for both bring the same file of the project to its own
//! place; every other two are, and the error names both.
//! Must not know: what lies at a place.

use glob::{MatchOptions, Pattern};

use crate::spec::code::Code;
use crate::spec::stage::read::Reader;
use crate::spec::types::{Span, Spanned, Stage};

/// A place that something is to have.
struct Claim {
    /// Who claims it, for a message.
    who: String,
    path: String,
    /// None for the usual place, which the file does not write.
    span: Option<Span>,
    /// True for a path under `uses`.
    used: bool,
}

impl Reader<'_, '_, '_> {
    /// Reports every claim on a place that an earlier one has.
    pub(super) fn check_claims(&mut self, stage: &Stage, uses: &[Spanned<String>]) {
        if stage.places.is_empty() && stage.output_paths.is_empty() && uses.is_empty() {
            return;
        }
        let mut claims: Vec<Claim> = Vec::new();
        for input in &stage.input_ports {
            claims.push(Claim::at("input", &input.name, "inputs", stage.places.get(&input.name)));
        }
        for output in &stage.outputs {
            claims.push(Claim::at("output", &output.name, "outputs", stage.output_paths.get(&output.name)));
        }
        // Those of `uses`, which come last, are no conflict among themselves.
        let places = claims.len();
        claims.extend(uses.iter().map(|path| Claim {
            who: format!("`uses: {}`", path.value),
            path: path.value.clone(),
            span: Some(path.span),
            used: true,
        }));
        for (index, claim) in claims.iter().enumerate() {
            if let Some(other) = claims[..index.min(places)].iter().find(|other| other.conflicts_with(claim))
            {
                self.conflict(other, claim);
            }
        }
    }

    fn conflict(&mut self, a: &Claim, b: &Claim) {
        let how = if a.path == b.path { "have the same place" } else { "lie one inside the other" };
        let message = format!(
            "{} at `{}` and {} at `{}` of {} {how} in its execution folder",
            a.who, a.path, b.who, b.path, self.owner
        );
        let hint = "give one of them another place: `at:` of an input, `path:` of an output".to_owned();
        let span = b.span.or(a.span).unwrap_or(self.name.span);
        self.context.out.push_hint(Code::PathConflict, span, message, Some(hint));
    }

    /// Reports places of a command that has no execution folder.
    pub(super) fn check_no_places(&mut self, stage: &Stage) {
        let places = stage.places.values().map(|place| ("at", place));
        for (key, place) in places.chain(stage.output_paths.values().map(|place| ("path", place))) {
            let message = format!(
                "{} has `{key}: {}` and `sandbox: off`, which runs in the project root and has no places of its own",
                self.owner, place.value
            );
            let hint = "take `{inputs.NAME}` and `{outputs.NAME}`, or another sandbox".to_owned();
            self.context.out.push_hint(Code::Choice, place.span, message, Some(hint));
        }
    }
}

impl Claim {
    fn at(word: &str, name: &str, folder: &str, place: Option<&Spanned<String>>) -> Self {
        Self {
            who: format!("{word} `{name}`"),
            path: place.map_or_else(|| format!("{folder}/{name}"), |place| place.value.clone()),
            span: place.map(|place| place.span),
            used: false,
        }
    }

    fn conflicts_with(&self, other: &Self) -> bool {
        match (self.used, other.used) {
            (true, true) => false,
            (true, false) => covers(&self.path, &other.path),
            (false, true) => covers(&other.path, &self.path),
            (false, false) => inside(&self.path, &other.path) || inside(&other.path, &self.path),
        }
    }
}

/// Whether a path is another one or lies inside it.
fn inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path or glob of `uses` brings something to a place, into it, or around it.
fn covers(used: &str, place: &str) -> bool {
    let fixed: Vec<_> = used.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect();
    let fixed = fixed.join("/");
    if fixed == used {
        return inside(used, place) || inside(place, used);
    }
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    let Ok(pattern) = Pattern::new(used) else { return false };
    let ancestors = place.match_indices('/').map(|(end, _)| &place[..end]).chain([place]);
    inside(&fixed, place) || ancestors.into_iter().any(|path| pattern.matches_with(path, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_covers_what_it_matches_and_what_lies_inside_of_that() {
        assert!(covers("lib", "lib/a") && covers("lib/a", "lib") && !covers("lib", "library"));
        assert!(covers("lib/*.py", "lib/a.py") && covers("lib/*.py", "lib") && covers("*", "a/b"));
        assert!(covers("**/*.py", "x/y.py") && covers("lib/**", "lib/a/b"));
        assert!(!covers("lib/*.py", "lib/data") && !covers("*.py", "inputs/x"));
    }
}
