//! A tree to instructions.
//!
//! Invariant: a program has at most [`MOST_INSTRUCTIONS`], however large the counts of its repetitions are; every jump leads
//! into the program; every body of a look-around or an atomic group ends with [`Inst::Accept`].
//! Must not know: the text.

use super::PatternError;
use super::charset::CharSet;
use super::parse::{Assertion, Kind, Node, One, Parsed};

/// The largest program.
const MOST_INSTRUCTIONS: usize = 20_000;
/// How often parts are gone through; those without an instruction can be repeated as well.
const MOST_VISITS: usize = 100_000;

/// A pattern, ready to run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) insts: Vec<Inst>,
    pub(super) sets: Vec<CharSet>,
    /// How many places the instructions remember.
    pub(super) slots: usize,
    /// The characters below 128 that a match can begin with; `None` if it can be empty.
    pub(super) first: Option<u128>,
}

/// An instruction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Inst {
    /// One character.
    One(One),
    /// The same one again and again.
    RepeatOne { one: One, min: u32, max: u32, kind: Kind },
    /// Goes on at `first`; at `second` where that fails, or where a character below 128 comes that is not in `may`.
    Split { first: usize, second: usize, may: u128 },
    /// Goes on at another place.
    Jump(usize),
    /// Remembers the place.
    Save(usize),
    /// Fails where the place is the one remembered: a repetition of nothing.
    Progress { slot: usize, exit: usize },
    /// The body follows; after it goes on at `end`. `behind` has the least and the most characters of the body.
    Look { behind: Option<(usize, usize)>, negate: bool, end: usize },
    /// The body follows; after it goes on at `end`.
    Atomic { end: usize },
    /// A place.
    Assert(Assertion),
    /// What a group matched.
    Backref(u32),
    /// The end of the program or of a body.
    Accept,
}

/// Compiles a tree.
pub(super) fn compile(parsed: Parsed) -> Result<Program, PatternError> {
    let uses_groups = has_backref(&parsed.node);
    let first = first(&parsed.node, &parsed.sets);
    let slots = if uses_groups { 2 * (parsed.groups as usize + 1) } else { 0 };
    let mut compiler = Compiler { insts: Vec::new(), sets: parsed.sets, slots, uses_groups, visits: 0 };
    compiler.node(&parsed.node)?;
    compiler.push(Inst::Accept)?;
    Ok(Program { insts: compiler.insts, sets: compiler.sets, slots: compiler.slots, first })
}

struct Compiler {
    insts: Vec<Inst>,
    sets: Vec<CharSet>,
    slots: usize,
    uses_groups: bool,
    visits: usize,
}

impl Compiler {
    fn push(&mut self, inst: Inst) -> Result<usize, PatternError> {
        if self.insts.len() == MOST_INSTRUCTIONS {
            return Err(too_large());
        }
        self.insts.push(inst);
        Ok(self.insts.len() - 1)
    }

    fn node(&mut self, node: &Node) -> Result<(), PatternError> {
        self.visits += 1;
        if self.visits > MOST_VISITS {
            return Err(too_large());
        }
        match node {
            Node::Empty => Ok(()),
            Node::One(one) => self.push(Inst::One(*one)).map(drop),
            Node::Concat(nodes) => nodes.iter().try_for_each(|node| self.node(node)),
            Node::Alternate(nodes) => self.alternate(nodes),
            Node::Repeat { node, min, max, kind } => self.repeat(node, *min, *max, *kind),
            Node::Capture(node, number) if self.uses_groups => {
                self.push(Inst::Save(2 * *number as usize))?;
                self.node(node)?;
                self.push(Inst::Save(2 * *number as usize + 1)).map(drop)
            }
            Node::Capture(node, _) => self.node(node),
            Node::Look { node, behind, negate } => {
                let behind = behind.then(|| {
                    let (least, most) = width(node);
                    (least, most.unwrap_or(usize::MAX))
                });
                let at = self.push(Inst::Look { behind, negate: *negate, end: 0 })?;
                self.node(node)?;
                let end = self.push(Inst::Accept)? + 1;
                self.insts[at] = Inst::Look { behind, negate: *negate, end };
                Ok(())
            }
            Node::Atomic(node) => self.atomic(|compiler| compiler.node(node)),
            Node::Assert(assertion) => self.push(Inst::Assert(*assertion)).map(drop),
            Node::Backref(number) => self.push(Inst::Backref(*number)).map(drop),
        }
    }

    fn atomic(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<(), PatternError>,
    ) -> Result<(), PatternError> {
        let at = self.push(Inst::Atomic { end: 0 })?;
        body(self)?;
        let end = self.push(Inst::Accept)? + 1;
        self.insts[at] = Inst::Atomic { end };
        Ok(())
    }

    fn alternate(&mut self, nodes: &[Node]) -> Result<(), PatternError> {
        let mut jumps = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if index + 1 == nodes.len() {
                self.node(node)?;
                break;
            }
            let split = self.push(Inst::Jump(0))?;
            self.node(node)?;
            jumps.push(self.push(Inst::Jump(0))?);
            let may = first(node, &self.sets).unwrap_or(u128::MAX);
            self.insts[split] = Inst::Split { first: split + 1, second: self.insts.len(), may };
        }
        for jump in jumps {
            self.insts[jump] = Inst::Jump(self.insts.len());
        }
        Ok(())
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, kind: Kind) -> Result<(), PatternError> {
        if let Node::One(one) = node {
            return self
                .push(Inst::RepeatOne { one: *one, min, max: max.unwrap_or(u32::MAX), kind })
                .map(drop);
        }
        if kind == Kind::Possessive {
            return self.atomic(|compiler| compiler.repeat(node, min, max, Kind::Greedy));
        }
        for _ in 0..min {
            self.node(node)?;
        }
        match max {
            None => self.endless(node, kind),
            Some(max) => {
                let mut splits = Vec::new();
                for _ in min..max {
                    splits.push(self.push(Inst::Jump(0))?);
                    self.node(node)?;
                }
                let end = self.insts.len();
                for split in splits {
                    self.insts[split] = branch(split + 1, end, kind);
                }
                Ok(())
            }
        }
    }

    /// `node*`, which ends where it matches nothing.
    fn endless(&mut self, node: &Node, kind: Kind) -> Result<(), PatternError> {
        let slot = self.slots;
        self.slots += 1;
        let split = self.push(Inst::Jump(0))?;
        self.push(Inst::Save(slot))?;
        self.node(node)?;
        let progress = self.push(Inst::Progress { slot, exit: 0 })?;
        self.push(Inst::Jump(split))?;
        let end = self.insts.len();
        self.insts[progress] = Inst::Progress { slot, exit: end };
        self.insts[split] = branch(split + 1, end, kind);
        Ok(())
    }
}

fn too_large() -> PatternError {
    PatternError { at: 0, what: "it is too large, with all its repetitions".into() }
}

fn branch(body: usize, end: usize, kind: Kind) -> Inst {
    match kind {
        Kind::Lazy => Inst::Split { first: end, second: body, may: u128::MAX },
        _ => Inst::Split { first: body, second: end, may: u128::MAX },
    }
}

fn has_backref(node: &Node) -> bool {
    match node {
        Node::Backref(_) => true,
        Node::Concat(nodes) | Node::Alternate(nodes) => nodes.iter().any(has_backref),
        Node::Repeat { node, .. } | Node::Capture(node, _) | Node::Look { node, .. } | Node::Atomic(node) => {
            has_backref(node)
        }
        Node::Empty | Node::One(_) | Node::Assert(_) => false,
    }
}

/// The least and the most characters that a node takes.
fn width(node: &Node) -> (usize, Option<usize>) {
    match node {
        Node::Empty | Node::Assert(_) | Node::Look { .. } => (0, Some(0)),
        Node::One(_) => (1, Some(1)),
        Node::Backref(_) => (0, None),
        Node::Capture(node, _) | Node::Atomic(node) => width(node),
        Node::Concat(nodes) => nodes.iter().map(width).fold((0, Some(0)), |(least, most), (low, high)| {
            (least.saturating_add(low), most.zip(high).map(|(most, high)| most.saturating_add(high)))
        }),
        Node::Alternate(nodes) => {
            nodes.iter().map(width).fold((usize::MAX, Some(0)), |(least, most), (low, high)| {
                (least.min(low), most.zip(high).map(|(most, high)| most.max(high)))
            })
        }
        Node::Repeat { node, min, max, .. } => {
            let (low, high) = width(node);
            let most = high.zip(*max).map(|(high, max)| high.saturating_mul(max as usize));
            (low.saturating_mul(*min as usize), most)
        }
    }
}

/// The characters below 128 that a node can begin with; `None` if it can match nothing.
fn first(node: &Node, sets: &[CharSet]) -> Option<u128> {
    match node {
        Node::Empty | Node::Assert(_) | Node::Look { .. } | Node::Backref(_) => None,
        Node::One(one) => Some(match one {
            One::Char(char) if char.is_ascii() => 1 << (*char as u32),
            One::Char(_) => 0,
            One::Set(index) => sets[*index as usize].ascii(),
            One::NotNewline | One::Any => u128::MAX,
        }),
        Node::Capture(node, _) | Node::Atomic(node) => first(node, sets),
        Node::Concat(nodes) => {
            let mut bits = 0;
            for node in nodes {
                match (first(node, sets), node) {
                    (Some(own), _) => return Some(bits | own),
                    // What may be left out lets the next one begin; what is a place does not matter.
                    (None, Node::Repeat { node, .. }) => bits |= first(node, sets)?,
                    (None, Node::Empty | Node::Assert(_) | Node::Look { .. }) => {}
                    (None, _) => return None,
                }
            }
            None
        }
        Node::Alternate(nodes) => nodes.iter().try_fold(0, |bits, node| Some(bits | first(node, sets)?)),
        Node::Repeat { node, min, .. } => {
            if *min > 0 {
                first(node, sets)
            } else {
                None
            }
        }
    }
}
