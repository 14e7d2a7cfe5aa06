//! Which shell reads a script.
//!
//! Purpose: tells shells of the POSIX family, whose quoting `script` understands, from all others, and finds the
//! script of a shell in a list.
//! Invariant: a program that is not known to be of the family is not taken for one.
//! Must not know: what a script says.

/// A family of shells that read quotes alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `sh`, `dash`, `ash`: POSIX, and not known what more (`sh` may be a link to any of the others).
    Posix,
    /// `bash`.
    Bash,
    /// `ksh`, `mksh` and their relatives, which have variables such as `${a.b}`.
    Ksh,
    /// `zsh`.
    Zsh,
}

impl Dialect {
    /// The dialect of a shell with its arguments; none where it is not of the POSIX family.
    pub(super) fn of(shell: &[String]) -> Option<Self> {
        let name = program(shell)?;
        match name {
            "sh" | "dash" | "ash" | "yash" | "posh" => Some(Self::Posix),
            "bash" | "rbash" => Some(Self::Bash),
            "ksh" | "mksh" | "lksh" | "oksh" | "loksh" | "pdksh" | "rksh" => Some(Self::Ksh),
            "zsh" => Some(Self::Zsh),
            "busybox" | "toybox" | "env" => {
                let rest = shell.get(1..).filter(|rest| !rest.first().is_some_and(|w| w.contains('=')))?;
                Self::of(rest)
            }
            _ => None,
        }
    }

    /// True when `$'..'` is known to be a string with escapes.
    pub(super) fn has_escape_strings(self) -> bool {
        self != Self::Posix
    }
}

/// True for a shell of the POSIX family, which takes a script after `-c`.
pub fn is_posix(shell: &[String]) -> bool {
    Dialect::of(shell).is_some()
}

/// Which word of a list is a script, as in `[bash, -c, SCRIPT]`; none where the program is no shell of the family.
pub(super) fn script_word(words: &[String]) -> Option<usize> {
    Dialect::of(words)?;
    let is_option = |word: &str| word.starts_with(['-', '+']) && !word.starts_with("--");
    let mut at = 1 + words.iter().position(|word| is_option(word) && word.contains('c'))?;
    while let Some(word) = words.get(at).filter(|word| word.starts_with(['-', '+'])) {
        // `-o` has an argument.
        at += if is_option(word) && word.ends_with(['o', 'O']) { 2 } else { 1 };
    }
    (at < words.len()).then_some(at)
}

/// The name of the shell's program without its folder and version.
pub(super) fn program(shell: &[String]) -> Option<&str> {
    let name = shell.first()?.rsplit('/').next()?;
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    Some(if plain.is_empty() { name } else { plain })
}
