//! Where in a command the next word stands.
//!
//! Purpose: tells reserved words from plain ones, as far as parentheses need it: the `)` behind a pattern of
//! `case` closes no parenthesis.
//! Invariant: where it is not known whether `case` is a reserved word, [`Position::word`] says so and the script
//! is refused.
//! Must not know: quoting, placeholders.

/// Where the next word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Position {
    /// Where a command may begin, so that reserved words count.
    #[default]
    Start,
    /// Behind the name of a command.
    Arguments,
    /// Where some shells take reserved words and some do not.
    Unsure,
    /// Behind a redirection that began a command.
    RedirectTarget,
    /// Behind `time`.
    Time,
    /// Behind `coproc`.
    Coproc,
    /// Behind `for` or `select`.
    ForName,
    /// Behind the name of a loop's variable.
    ForIn,
    /// Behind `function`.
    FunctionName,
    /// Behind `case`.
    CaseSubject,
    /// Where `in` must stand.
    CaseIn,
    /// Where a pattern or `esac` begins.
    PatternStart,
    /// In a pattern.
    Pattern,
}

/// What a word does to its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// `case` opens.
    OpenCase,
    /// `esac` closes.
    CloseCase,
    /// `[[` opens.
    OpenTest,
    /// It is not known what the word means here.
    Lost,
}

impl Position {
    /// Goes past a word, given as its text where no part of it is quoted or expanded.
    pub(super) fn word(&mut self, plain: Option<&str>) -> Effect {
        let (next, effect) = match *self {
            Self::Start => Self::first(plain),
            Self::Time if plain.is_some_and(|word| word.starts_with('-')) => (Self::Unsure, Effect::None),
            Self::Time => Self::first(plain),
            Self::Unsure | Self::Coproc if plain == Some("case") && *self == Self::Unsure => {
                (Self::Arguments, Effect::Lost)
            }
            Self::Coproc => match Self::first(plain) {
                (Self::Arguments, effect) => (Self::Unsure, effect),
                other => other,
            },
            Self::RedirectTarget => (Self::Unsure, Effect::None),
            Self::ForName => (Self::ForIn, Effect::None),
            Self::ForIn if plain == Some("do") => (Self::Start, Effect::None),
            Self::FunctionName => (Self::Start, Effect::None),
            Self::CaseSubject => (Self::CaseIn, Effect::None),
            Self::CaseIn if plain == Some("in") => (Self::PatternStart, Effect::None),
            Self::CaseIn => (Self::Arguments, Effect::Lost),
            Self::PatternStart if plain == Some("esac") => (Self::Start, Effect::CloseCase),
            Self::PatternStart | Self::Pattern => (Self::Pattern, Effect::None),
            Self::Arguments | Self::ForIn | Self::Unsure => (Self::Arguments, Effect::None),
        };
        *self = next;
        effect
    }

    /// The first word of a command.
    fn first(plain: Option<&str>) -> (Self, Effect) {
        let next = match plain {
            Some("case") => return (Self::CaseSubject, Effect::OpenCase),
            Some("esac") => return (Self::Start, Effect::CloseCase),
            Some("[[") => return (Self::Start, Effect::OpenTest),
            Some("for" | "select") => Self::ForName,
            Some("function") => Self::FunctionName,
            Some("time") => Self::Time,
            Some("coproc") => Self::Coproc,
            Some(
                "if" | "then" | "else" | "elif" | "fi" | "do" | "done" | "while" | "until" | "{" | "}" | "!",
            ) => Self::Start,
            _ => Self::Arguments,
        };
        (next, Effect::None)
    }

    /// Goes past an operator such as `<`.
    pub(super) fn redirection(&mut self) {
        if matches!(self, Self::Start | Self::Time | Self::Coproc) {
            *self = Self::RedirectTarget;
        }
    }

    /// True where parentheses group commands.
    pub(super) fn takes_commands(self) -> bool {
        matches!(self, Self::Start | Self::Time | Self::Coproc | Self::Unsure)
    }
}
