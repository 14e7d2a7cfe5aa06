//! Matching, by trying and going back.
//!
//! Purpose: [`Regex::find_all`]. A stack of places to go back to takes the place of recursion; only look-around and atomic
//! groups recurse, no deeper than they are nested in the pattern.
//! Invariant: every instruction, every repeated character and every start of a look behind takes a step of the fuel, and the
//! stack is bounded; so time and memory are, for any pattern and any text.
//! Must not know: patterns as text.

use std::cell::Cell;

use super::PatternError;
use super::charset::is_word;
use super::compile::{Inst, Program, compile};
use super::parse::{Assertion, Kind, One, parse};

/// Steps for each byte of a text; patterns in use take about ten.
const STEPS_PER_BYTE: u64 = 2048;
/// Steps for a text, however short.
const STEPS: u64 = 1 << 22;
/// Places to go back to.
const MOST_FRAMES: usize = 1 << 22;

/// How many steps searches in one text may still take, all together.
#[derive(Debug)]
pub(in crate::foreign) struct Fuel(Cell<u64>);

impl Fuel {
    /// Enough for any sensible pattern in a text of this many bytes.
    pub(in crate::foreign) fn for_text(bytes: usize) -> Self {
        Self(Cell::new((bytes as u64).saturating_mul(STEPS_PER_BYTE).saturating_add(STEPS)))
    }
}

/// A pattern.
#[derive(Debug)]
pub(in crate::foreign) struct Regex {
    source: String,
    program: Program,
}

/// Two patterns are the same if they are written the same.
impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Regex {
    /// Reads a pattern.
    pub(in crate::foreign) fn new(source: &str) -> Result<Self, PatternError> {
        let program = compile(parse(source)?)?;
        Ok(Self { source: source.into(), program })
    }

    /// Where the pattern matches, from left to right, without overlap; as far as the fuel goes.
    ///
    /// An empty match that follows another match at the same place is none, as in the binding of Oniguruma.
    pub(in crate::foreign) fn find_all(&self, text: &str, fuel: &Fuel) -> Vec<(usize, usize)> {
        let mut machine = Machine {
            program: &self.program,
            text,
            fuel: fuel.0.get(),
            slots: vec![usize::MAX; self.program.slots],
            frames: Vec::new(),
        };
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut at = 0;
        while at <= text.len() {
            let Ok(Some((start, end))) = machine.search(at) else { break };
            let after_another = found.last().is_some_and(|last| last.1 == end);
            if start == end && after_another {
                at = next_place(text, end);
            } else {
                found.push((start, end));
                at = end;
            }
        }
        fuel.0.set(machine.fuel);
        found
    }
}

/// The place after the character here, or one past the end.
fn next_place(text: &str, at: usize) -> usize {
    at + char_at(text, at).map_or(1, char::len_utf8)
}

#[inline]
fn char_at(text: &str, at: usize) -> Option<char> {
    let byte = *text.as_bytes().get(at)?;
    if byte.is_ascii() {
        return Some(byte.into());
    }
    text.get(at..)?.chars().next()
}

fn char_before(text: &str, at: usize) -> Option<char> {
    text.get(..at)?.chars().next_back()
}

/// The fuel or the stack is at its end.
struct Exhausted;

/// What to do when what was tried fails.
#[derive(Debug, Clone, Copy)]
enum Frame {
    /// Go on there.
    Branch { inst: usize, at: usize },
    /// Give back a character, down to `low`, and go on.
    Shorter { inst: usize, low: usize, at: usize },
    /// Take a character more, at most `left`, and go on.
    Longer { one: One, inst: usize, at: usize, left: u32 },
    /// Remember what was there before, and fail on.
    Restore { slot: usize, place: usize },
}

struct Machine<'a> {
    program: &'a Program,
    text: &'a str,
    fuel: u64,
    slots: Vec<usize>,
    frames: Vec<Frame>,
}

impl Machine<'_> {
    /// The first match that begins at `from` or later.
    fn search(&mut self, from: usize) -> Result<Option<(usize, usize)>, Exhausted> {
        let mut start = from;
        while start <= self.text.len() {
            self.step()?;
            if self.program.first.is_none_or(|first| self.may_begin(first, start)) {
                // Most patterns have none, and the call would take as long as the match.
                if !self.slots.is_empty() {
                    self.slots.fill(usize::MAX);
                }
                if let Some(end) = self.run(0, start, None)? {
                    self.frames.clear();
                    return Ok(Some((start, end)));
                }
            }
            start = next_place(self.text, start);
        }
        Ok(None)
    }

    /// Whether the character here is not below 128, or one of these.
    #[inline]
    fn may_begin(&self, ascii: u128, at: usize) -> bool {
        match self.text.as_bytes().get(at) {
            Some(byte) if byte.is_ascii() => ascii >> byte & 1 == 1,
            Some(_) => true,
            None => ascii == u128::MAX,
        }
    }

    #[inline]
    fn step(&mut self) -> Result<(), Exhausted> {
        self.fuel = self.fuel.checked_sub(1).ok_or(Exhausted)?;
        Ok(())
    }

    fn push(&mut self, frame: Frame) -> Result<(), Exhausted> {
        if self.frames.len() == MOST_FRAMES {
            return Err(Exhausted);
        }
        self.frames.push(frame);
        Ok(())
    }

    #[inline]
    fn matches(&self, one: One, char: char) -> bool {
        match one {
            One::Char(only) => only == char,
            One::Set(index) => self.program.sets[index as usize].has(char),
            One::NotNewline => char != '\n',
            One::Any => true,
        }
    }

    /// Where the body at `inst` ends that begins at `at`; if there is a `goal`, it has to end there.
    fn run(
        &mut self,
        mut inst: usize,
        mut at: usize,
        goal: Option<usize>,
    ) -> Result<Option<usize>, Exhausted> {
        let base = self.frames.len();
        loop {
            self.step()?;
            let goes_on = match self.program.insts[inst] {
                Inst::Accept if goal.is_none_or(|goal| goal == at) => {
                    self.forget_choices(base);
                    return Ok(Some(at));
                }
                Inst::Accept => false,
                Inst::One(one) => match char_at(self.text, at) {
                    Some(char) if self.matches(one, char) => {
                        at += char.len_utf8();
                        inst += 1;
                        true
                    }
                    _ => false,
                },
                Inst::RepeatOne { one, min, max, kind } => {
                    inst += 1;
                    self.repeat(one, (min, max), kind, inst, &mut at)?
                }
                Inst::Split { first, second, may } => {
                    if self.may_begin(may, at) {
                        self.push(Frame::Branch { inst: second, at })?;
                        inst = first;
                    } else {
                        inst = second;
                    }
                    true
                }
                Inst::Jump(target) => {
                    inst = target;
                    true
                }
                Inst::Save(slot) => {
                    self.push(Frame::Restore { slot, place: self.slots[slot] })?;
                    self.slots[slot] = at;
                    inst += 1;
                    true
                }
                Inst::Progress { slot, exit } => {
                    inst = if self.slots[slot] == at { exit } else { inst + 1 };
                    true
                }
                Inst::Look { behind, negate, end } => {
                    let before = self.frames.len();
                    let found = self.look(inst + 1, at, behind)?;
                    if negate {
                        self.undo(before);
                    }
                    inst = end;
                    found != negate
                }
                Inst::Atomic { end } => match self.run(inst + 1, at, None)? {
                    Some(after) => {
                        at = after;
                        inst = end;
                        true
                    }
                    None => false,
                },
                Inst::Assert(assertion) => {
                    inst += 1;
                    self.holds(assertion, at)
                }
                Inst::Backref(number) => {
                    inst += 1;
                    self.backref(number, &mut at)?
                }
            };
            if !goes_on {
                match self.back(base)? {
                    Some(place) => (inst, at) = place,
                    None => return Ok(None),
                }
            }
        }
    }

    /// Takes a repeated character; whether there were enough.
    fn repeat(
        &mut self,
        one: One,
        (min, max): (u32, u32),
        kind: Kind,
        next: usize,
        at: &mut usize,
    ) -> Result<bool, Exhausted> {
        let wanted = if kind == Kind::Lazy { min } else { max };
        let (mut count, mut low) = (0, *at);
        while count < wanted {
            match char_at(self.text, *at) {
                Some(char) if self.matches(one, char) => *at += char.len_utf8(),
                _ => break,
            }
            count += 1;
            if count == min {
                low = *at;
            }
        }
        self.fuel = self.fuel.checked_sub(count.into()).ok_or(Exhausted)?;
        if count < min {
            return Ok(false);
        }
        match kind {
            Kind::Greedy if low < *at => self.push(Frame::Shorter { inst: next, low, at: *at })?,
            Kind::Lazy if min < max => {
                self.push(Frame::Longer { one, inst: next, at: *at, left: max - min })?;
            }
            _ => {}
        }
        Ok(true)
    }

    /// The last place to go back to that is not before `base`.
    fn back(&mut self, base: usize) -> Result<Option<(usize, usize)>, Exhausted> {
        while self.frames.len() > base {
            self.step()?;
            match self.frames.pop() {
                Some(Frame::Branch { inst, at }) => return Ok(Some((inst, at))),
                Some(Frame::Shorter { inst, low, at }) => {
                    let at = at - char_before(self.text, at).map_or(1, char::len_utf8);
                    if at > low {
                        self.frames.push(Frame::Shorter { inst, low, at });
                    }
                    return Ok(Some((inst, at)));
                }
                Some(Frame::Longer { one, inst, at, left }) => match char_at(self.text, at) {
                    Some(char) if self.matches(one, char) => {
                        let at = at + char.len_utf8();
                        if left > 1 {
                            self.frames.push(Frame::Longer { one, inst, at, left: left - 1 });
                        }
                        return Ok(Some((inst, at)));
                    }
                    _ => {}
                },
                Some(Frame::Restore { slot, place }) => self.slots[slot] = place,
                None => break,
            }
        }
        Ok(None)
    }

    /// Whether the body is ahead, or ends here.
    fn look(&mut self, body: usize, at: usize, behind: Option<(usize, usize)>) -> Result<bool, Exhausted> {
        let Some((least, most)) = behind else { return Ok(self.run(body, at, None)?.is_some()) };
        let mut start = at;
        let mut count = 0;
        loop {
            if count >= least && self.run(body, start, Some(at))?.is_some() {
                return Ok(true);
            }
            self.step()?;
            match char_before(self.text, start) {
                Some(char) if count < most => start -= char.len_utf8(),
                _ => return Ok(false),
            }
            count += 1;
        }
    }

    /// Keeps from `base` on only what is needed to restore the slots: a body that has matched is not tried again.
    fn forget_choices(&mut self, base: usize) {
        if self.program.slots == 0 {
            return self.frames.truncate(base);
        }
        let kept = self.frames.split_off(base).into_iter();
        self.frames.extend(kept.filter(|frame| matches!(frame, Frame::Restore { .. })));
    }

    /// Restores the slots as they were at `base`.
    fn undo(&mut self, base: usize) {
        for frame in self.frames.drain(base..).rev() {
            if let Frame::Restore { slot, place } = frame {
                self.slots[slot] = place;
            }
        }
    }

    fn holds(&self, assertion: Assertion, at: usize) -> bool {
        let (before, after) = (char_before(self.text, at), char_at(self.text, at));
        let is_word = |char: Option<char>| char.is_some_and(is_word);
        match assertion {
            Assertion::LineStart => before.is_none_or(|char| char == '\n'),
            Assertion::LineEnd => after.is_none_or(|char| char == '\n'),
            Assertion::TextStart => before.is_none(),
            Assertion::TextEnd => after.is_none(),
            Assertion::TextEndOrNewline => matches!(self.text.get(at..), Some("" | "\n")),
            Assertion::WordBoundary => is_word(before) != is_word(after),
            Assertion::NotWordBoundary => is_word(before) == is_word(after),
        }
    }

    fn backref(&mut self, number: u32, at: &mut usize) -> Result<bool, Exhausted> {
        let slot = 2 * number as usize;
        let (Some(&start), Some(&end)) = (self.slots.get(slot), self.slots.get(slot + 1)) else {
            return Ok(false);
        };
        // A group that has not matched refers to nothing: its slots lie outside of the text.
        let (Some(group), Some(rest)) = (self.text.get(start..end), self.text.get(*at..)) else {
            return Ok(false);
        };
        self.fuel = self.fuel.checked_sub(group.len() as u64).ok_or(Exhausted)?;
        *at += if rest.starts_with(group) { group.len() } else { return Ok(false) };
        Ok(true)
    }
}
