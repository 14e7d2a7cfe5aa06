//! The codes of the errors of a pipeline file.
//!
//! Purpose: one variant for each code, which scripts may rely on and `kiln explain` can describe.
//! Invariant: a code that was published keeps its text.
//! Must not know: where an error lies, how it is shown.

use std::fmt;

use serde::Serialize;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The code of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it is printed.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// A glob that cannot be read.
    BadGlob = "bad-glob",
    /// A text that cannot be a name.
    BadName = "bad-name",
    /// A text that cannot be a path here.
    BadPath = "bad-path",
    /// A value that is none of the possible ones.
    Choice = "choice",
    /// Stages that need each other.
    Cycle = "cycle",
    /// A key that stands in a mapping twice.
    DuplicateKey = "duplicate-key",
    /// A stage with the name of a source.
    DuplicateName = "duplicate-name",
    /// A file that cannot be read.
    Io = "io",
    /// An input that a kind needs is not given.
    MissingInput = "missing-input",
    /// A key that must be there is not.
    MissingKey = "missing-key",
    /// A parameter without a default is not given.
    MissingParam = "missing-param",
    /// A source that has no file.
    NoSource = "no-source",
    /// A file under `uses` that is not there.
    NoUses = "no-uses",
    /// A path that leads out of the project root.
    OutsideRoot = "outside-root",
    /// A wrong `--set` or `--unset`.
    Override = "override",
    /// Parameters that do not fit together.
    Params = "params",
    /// Two claims on one place of an execution folder.
    PathConflict = "path-conflict",
    /// A placeholder that is none, or that names nothing.
    Placeholder = "placeholder",
    /// A provider that does not answer as it should.
    Provider = "provider",
    /// A number, text or list outside of its bounds.
    Range = "range",
    /// A source that contains the store.
    StoreInSource = "store-in-source",
    /// A stage that asks for more cores than there are, and whose key names them.
    TooFewCores = "too-few-cores",
    /// A text that is no YAML.
    Syntax = "syntax",
    /// A value of a wrong type.
    Type = "type",
    /// An executor that nobody describes.
    UnknownExecutor = "unknown-executor",
    /// A key that does not exist.
    UnknownKey = "unknown-key",
    /// A kind that does not exist.
    UnknownKind = "unknown-kind",
    /// A reference to a stage, source or output that does not exist.
    UnknownRef = "unknown-ref",
    /// A target that does not exist.
    UnknownTarget = "unknown-target",
    /// An artifact type that does not exist.
    UnknownType = "unknown-type",
    /// A folder on the way to a source that cannot be read.
    Unreadable = "unreadable",
    /// An environment variable that is not set.
    UnsetVariable = "unset-variable",
    /// A source that this version cannot read.
    UnsupportedSource = "unsupported-source",
    /// A parameter of the pipeline that no stage takes.
    UnusedParam = "unused-param",
    /// An artifact of a type that an input does not take.
    WrongType = "wrong-type",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_kebab_case_and_has_one_text() {
        let texts: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.to_string()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{code}");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
