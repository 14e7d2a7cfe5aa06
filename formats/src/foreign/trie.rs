//! Which texts of a set begin at a place.
//!
//! Invariant: finding them takes a step for each byte of the longest of them, and no more.
//! Must not know: what the texts mean.

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// A set of byte strings, each with a number.
#[derive(Debug, Clone)]
pub(super) struct Trie {
    /// The nodes below the root, which most places of a text do not get past.
    roots: Box<[u32; 256]>,
    children: HashMap<(u32, u8), u32, FixedState>,
    /// The number of the text that ends at a node.
    ends: Vec<Option<u32>>,
    /// Whether a text goes on after a node.
    goes_on: Vec<bool>,
}

impl Default for Trie {
    fn default() -> Self {
        let children = HashMap::with_hasher(FixedState::default());
        Self { roots: Box::new([0; 256]), children, ends: vec![None], goes_on: vec![false] }
    }
}

impl Trie {
    /// Adds a text; gives back the number of the same text if it was there.
    pub(super) fn insert(&mut self, text: impl IntoIterator<Item = u8>, number: u32) -> Option<u32> {
        let mut node = 0;
        for byte in text {
            node = match self.child(node, byte) {
                Some(child) => child,
                None => self.grow(node, byte),
            };
        }
        self.ends[node as usize].replace(number)
    }

    fn grow(&mut self, node: u32, byte: u8) -> u32 {
        let child = self.ends.len() as u32;
        self.ends.push(None);
        self.goes_on.push(false);
        self.goes_on[node as usize] = true;
        if node == 0 {
            self.roots[byte as usize] = child;
        } else {
            self.children.insert((node, byte), child);
        }
        child
    }

    fn child(&self, node: u32, byte: u8) -> Option<u32> {
        if node == 0 {
            return Some(self.roots[byte as usize]).filter(|&child| child != 0);
        }
        self.children.get(&(node, byte)).copied()
    }

    /// Whether any text begins with this byte.
    #[inline]
    pub(super) fn may_begin(&self, byte: u8) -> bool {
        self.roots[byte as usize] != 0
    }

    /// Whether there is no text in it.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.len() == 1
    }

    /// Calls `found` with the length and the number of each text that `bytes` begins with, shortest first; says whether
    /// `bytes` ended while a longer text could still have followed.
    pub(super) fn prefixes(
        &self,
        bytes: impl IntoIterator<Item = u8>,
        mut found: impl FnMut(usize, u32),
    ) -> bool {
        let mut node = 0;
        for (index, byte) in bytes.into_iter().enumerate() {
            match self.child(node, byte) {
                Some(child) => node = child,
                None => return false,
            }
            if let Some(number) = self.ends[node as usize] {
                found(index + 1, number);
            }
        }
        self.goes_on[node as usize]
    }
}
