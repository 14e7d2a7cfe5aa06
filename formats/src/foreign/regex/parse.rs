//! A pattern to a tree.
//!
//! Purpose: the syntax of Oniguruma, as far as tokenizers use it: classes, groups, look-around, atomic groups, greedy, lazy
//! and possessive quantifiers, back references, the options `i` and `m`.
//! Invariant: the depth of the tree, the length of the pattern and the counts in it are bounded. `{3}+` and `{3}?` repeat the
//! repetition, as Oniguruma has it; `^` and `$` are the ends of lines; `(?m)` lets the dot match a line break.
//! Must not know: how a tree is matched.

use super::PatternError;
use super::charset::CharSet;

/// The longest pattern, in bytes; the longest in use have about 700.
pub(super) const LONGEST: usize = 8 << 10;
/// Groups in groups.
const DEEPEST: usize = 48;
/// The largest number in `{n,m}`.
const MOST_REPEATS: u32 = 1000;

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Nothing, everywhere.
    Empty,
    /// One character.
    One(One),
    /// One after the other.
    Concat(Vec<Node>),
    /// The first that matches.
    Alternate(Vec<Node>),
    /// Again and again.
    Repeat { node: Box<Node>, min: u32, max: Option<u32>, kind: Kind },
    /// A group with a number.
    Capture(Box<Node>, u32),
    /// A look ahead or behind.
    Look { node: Box<Node>, behind: bool, negate: bool },
    /// A group that keeps its first match.
    Atomic(Box<Node>),
    /// A place.
    Assert(Assertion),
    /// What the group of this number matched.
    Backref(u32),
}

/// What one character may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum One {
    /// This one.
    Char(char),
    /// One of the set of this number.
    Set(u32),
    /// Any but a line feed.
    NotNewline,
    /// Any.
    Any,
}

/// How much a repetition takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// As much as it can.
    Greedy,
    /// As little as it can.
    Lazy,
    /// As much as it can, and never less.
    Possessive,
}

/// A place between characters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Assertion {
    LineStart,
    LineEnd,
    TextStart,
    TextEnd,
    /// The end, or before a line feed that ends the text.
    TextEndOrNewline,
    WordBoundary,
    NotWordBoundary,
}

/// A tree and the sets of characters in it.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) node: Node,
    pub(super) sets: Vec<CharSet>,
    pub(super) groups: u32,
}

/// Parses a pattern.
pub(super) fn parse(pattern: &str) -> Result<Parsed, PatternError> {
    let mut parser = Parser {
        pattern,
        at: 0,
        ignore_case: false,
        dot_all: false,
        depth: 0,
        groups: 0,
        highest_backref: 0,
        sets: Vec::new(),
    };
    if pattern.len() > LONGEST {
        return Err(parser.error(format!("it has {} bytes, more than {LONGEST}", pattern.len())));
    }
    let node = parser.alternation()?;
    if parser.at < pattern.len() {
        return Err(parser.error("`)` without `(`"));
    }
    if parser.highest_backref > parser.groups {
        return Err(parser.error(format!("there is no group {}", parser.highest_backref)));
    }
    Ok(Parsed { node, sets: parser.sets, groups: parser.groups })
}

pub(super) struct Parser<'p> {
    pub(super) pattern: &'p str,
    pub(super) at: usize,
    pub(super) ignore_case: bool,
    dot_all: bool,
    depth: usize,
    groups: u32,
    pub(super) highest_backref: u32,
    pub(super) sets: Vec<CharSet>,
}

impl<'p> Parser<'p> {
    pub(super) fn error(&self, what: impl Into<String>) -> PatternError {
        PatternError { at: self.at, what: what.into() }
    }

    pub(super) fn rest(&self) -> &'p str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn take(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    fn alternation(&mut self) -> Result<Node, PatternError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error(format!("groups are nested more than {DEEPEST} deep")));
        }
        let mut branches = vec![self.sequence()?];
        while self.eat("|") {
            branches.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Alternate(branches) })
    }

    fn sequence(&mut self) -> Result<Node, PatternError> {
        let mut nodes = Vec::new();
        while self.peek().is_some_and(|char| char != '|' && char != ')') {
            let atom = self.atom()?;
            nodes.push(self.quantified(atom)?);
        }
        Ok(match nodes.len() {
            0 => Node::Empty,
            1 => nodes.remove(0),
            _ => Node::Concat(nodes),
        })
    }

    fn atom(&mut self) -> Result<Node, PatternError> {
        let start = self.at;
        match self.peek() {
            Some('(') => return self.group(),
            Some('[') => return self.class(),
            Some('\\') => return self.escape(),
            Some('{') if self.interval().is_some() => {
                self.at = start;
                return Err(self.error("there is nothing to repeat before `{`"));
            }
            _ => {}
        }
        match self.take() {
            Some('^') => Ok(Node::Assert(Assertion::LineStart)),
            Some('$') => Ok(Node::Assert(Assertion::LineEnd)),
            Some('.') => Ok(Node::One(if self.dot_all { One::Any } else { One::NotNewline })),
            Some(sign @ ('*' | '+' | '?')) => {
                self.at = start;
                Err(self.error(format!("there is nothing to repeat before `{sign}`")))
            }
            Some(char) => self.literal(char),
            None => Ok(Node::Empty),
        }
    }

    /// A character that stands for itself, or for its other case as well.
    pub(super) fn literal(&mut self, char: char) -> Result<Node, PatternError> {
        if self.ignore_case && char.is_alphabetic() {
            return self.set(&format!("[{char}]"));
        }
        Ok(Node::One(One::Char(char)))
    }

    /// The set of a class in the syntax of `regex-syntax`.
    pub(super) fn set(&mut self, class: &str) -> Result<Node, PatternError> {
        let set = CharSet::new(class, self.ignore_case).map_err(|what| self.error(what))?;
        let known = self.sets.iter().position(|other| *other == set);
        let index = known.unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        Ok(Node::One(One::Set(index as u32)))
    }

    fn quantified(&mut self, atom: Node) -> Result<Node, PatternError> {
        let mut node = atom;
        let mut stacked = 0;
        while let Some((min, max, counted)) = self.quantifier()? {
            // Each one puts the tree a level deeper.
            stacked += 1;
            if stacked > 4 {
                return Err(self.error("more than four quantifiers follow each other"));
            }
            let kind = match counted {
                // `{n}?` is a repetition that may be left out.
                Some(comma) if comma && self.eat("?") => Kind::Lazy,
                None if self.eat("?") => Kind::Lazy,
                None if self.eat("+") => Kind::Possessive,
                _ => Kind::Greedy,
            };
            node = Node::Repeat { node: Box::new(node), min, max, kind };
        }
        Ok(node)
    }

    /// Least, most, and for `{..}` whether there is a comma.
    #[allow(clippy::type_complexity)]
    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>, Option<bool>)>, PatternError> {
        let simple = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let Some((min, max, comma)) = self.interval() else { return Ok(None) };
                if max.is_some_and(|max| max < min) || min.max(max.unwrap_or(0)) > MOST_REPEATS {
                    return Err(
                        self.error(format!("a repetition is not in the order of 0 to {MOST_REPEATS}"))
                    );
                }
                return Ok(Some((min, max, Some(comma))));
            }
            _ => return Ok(None),
        };
        self.take();
        Ok(Some((simple.0, simple.1, None)))
    }

    /// `{n}`, `{n,}`, `{,m}` or `{n,m}`, which is taken if it is there; anything else is text.
    fn interval(&mut self) -> Option<(u32, Option<u32>, bool)> {
        let inside = self.rest().strip_prefix('{')?;
        let inside = &inside[..inside.find('}')?];
        let number = |text: &str| -> Option<u32> {
            let digits = (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse().ok() } else { None }
        };
        let found = match inside.split_once(',') {
            None => number(inside).map(|n| (n, Some(n), false)),
            Some(("", most)) => number(most).map(|most| (0, Some(most), true)),
            Some((least, "")) => number(least).map(|least| (least, None, true)),
            Some((least, most)) => number(least).zip(number(most)).map(|(n, m)| (n, Some(m), true)),
        }?;
        self.at += inside.len() + 2;
        Some(found)
    }

    fn group(&mut self) -> Result<Node, PatternError> {
        let start = self.at;
        self.take();
        let look = |node, behind, negate| Node::Look { node: Box::new(node), behind, negate };
        let node = match () {
            _ if self.eat("?:") => self.alternation()?,
            _ if self.eat("?>") => Node::Atomic(Box::new(self.alternation()?)),
            _ if self.eat("?=") => look(self.alternation()?, false, false),
            _ if self.eat("?!") => look(self.alternation()?, false, true),
            _ if self.eat("?<=") => look(self.alternation()?, true, false),
            _ if self.eat("?<!") => look(self.alternation()?, true, true),
            _ if self.rest().starts_with('?') => return self.options(start),
            _ => {
                self.groups += 1;
                let number = self.groups;
                Node::Capture(Box::new(self.alternation()?), number)
            }
        };
        self.close(start)?;
        Ok(node)
    }

    fn close(&mut self, start: usize) -> Result<(), PatternError> {
        if self.eat(")") {
            return Ok(());
        }
        self.at = start;
        Err(self.error("`(` without `)`"))
    }

    /// `(?i:..)`, or `(?i)` at the very beginning; in the middle its reach differs from library to library.
    fn options(&mut self, start: usize) -> Result<Node, PatternError> {
        self.take();
        let before = (self.ignore_case, self.dot_all);
        let mut on = true;
        loop {
            match self.take() {
                Some('i') => self.ignore_case = on,
                Some('m') => self.dot_all = on,
                Some('-') if on => on = false,
                Some(':') => break,
                Some(')') if start == 0 => return Ok(Node::Empty),
                _ => {
                    self.at = start;
                    return Err(self.error(
                        "this kind of group is not understood; there are (..), (?:..), (?>..), look-around and the \
                         options i and m as in (?i:..)",
                    ));
                }
            }
        }
        let node = self.alternation()?;
        (self.ignore_case, self.dot_all) = before;
        self.close(start)?;
        Ok(node)
    }
}
