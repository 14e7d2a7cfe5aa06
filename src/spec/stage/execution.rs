//! Where and with what a command runs.
//!
//! Purpose: `shell`, `uses`, `cwd`, `sandbox` and `platform` of a command.
//! Invariant: a path is relative, normal, and stays below the project root.
//! Must not know: how an execution folder is made, how a shell is started.

use crate::spec::code::Code;
use crate::spec::document::node::{Data, Node};
use crate::spec::fields;
use crate::spec::stage::read::Reader;
use crate::spec::types::{Run, Sandbox, Spanned};

/// The shell of a script when the stage names none: it ends at the first command that fails.
const SHELL: [&str; 3] = ["bash", "-eo", "pipefail"];

impl Reader<'_, '_, '_> {
    /// The shell and its arguments: a text is split at spaces, a list is taken as it is.
    pub(super) fn shell(&mut self, run: &Run) -> Vec<String> {
        let default = || SHELL.map(str::to_owned).to_vec();
        let Some(node) = self.node.get("shell") else { return default() };
        let out = &mut *self.context.out;
        if let Run::Exec(words) = run
            && !words.is_empty()
        {
            let message =
                format!("`shell` of {} has no effect: its `run` is a list, which needs no shell", self.owner);
            let hint = "write `run` as a text, or leave out `shell`".to_owned();
            out.push_hint(Code::Choice, node.span, message, Some(hint));
        }
        let words = match &node.data {
            Data::String(text) if !text.contains(['\'', '"', '\\']) => {
                Some(text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            }
            Data::Seq(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        let usable = |words: &Vec<String>| {
            words.first().is_some_and(|word| !word.is_empty())
                && !words.iter().any(|word| word.contains('\0'))
        };
        words.filter(usable).unwrap_or_else(|| {
            let message = format!(
                "`shell` of {} must be a program and its arguments, such as `sh` or `bash -eo pipefail`",
                self.owner
            );
            let hint = "write a list where a word holds spaces or quotes".to_owned();
            out.push_hint(Code::Type, node.span, message, Some(hint));
            default()
        })
    }

    pub(super) fn uses(&mut self) -> Vec<Spanned<String>> {
        let Some(node) = self.node.get("uses") else { return Vec::new() };
        let what = format_args!("`uses` of {}", self.owner);
        let out = &mut *self.context.out;
        fields::list(node).iter().filter_map(|item| fields::path_below(item, what, out)).collect()
    }

    pub(super) fn cwd(&mut self) -> Option<Spanned<String>> {
        let node = self.node.get("cwd")?;
        fields::path_below(node, format_args!("`cwd` of {}", self.owner), self.context.out)
    }

    pub(super) fn sandbox(&mut self) -> Sandbox {
        let Some(node) = self.node.get("sandbox") else { return Sandbox::default() };
        // YAML 1.1 reads `off` as a boolean, and so do some tools that write YAML.
        let off = Node { data: Data::String("off".to_owned()), ..Node::default() };
        let node = if node.data == Data::Bool(false) { &off } else { node };
        let choices = [("folder", Sandbox::Folder), ("strict", Sandbox::Strict), ("off", Sandbox::Off)];
        let what = format_args!("`sandbox` of {}", self.owner);
        fields::choice(node, &choices, what, self.context.out).unwrap_or_default()
    }

    /// True for `platform: any`.
    pub(super) fn any_platform(&mut self) -> bool {
        let Some(node) = self.node.get("platform") else { return false };
        let what = format_args!("`platform` of {}", self.owner);
        fields::choice(node, &[("any", true)], what, self.context.out).unwrap_or(false)
    }
}
