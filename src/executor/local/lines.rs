//! Cuts a stream of bytes into lines of bounded length.
//!
//! Invariant: a line that is too long is handed on once, cut off, and its rest is dropped.
//! Must not know: where the bytes come from, what a line means.

/// The longest line; more is cut off.
const LONGEST_LINE: usize = 1 << 20;

/// Bytes that are not a whole line yet.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// The rest of a line that was too long is dropped.
    skipping: bool,
}

impl Lines {
    /// Takes the next bytes and hands each line that they complete to `on_line`.
    pub fn push(&mut self, bytes: &[u8], mut on_line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            let complete = piece.last() == Some(&b'\n');
            if !self.skipping {
                self.buffer.extend_from_slice(piece);
                self.skipping = self.buffer.len() > LONGEST_LINE;
                if complete || self.skipping {
                    on_line(self.buffer.trim_ascii_end());
                    self.buffer.clear();
                }
            }
            self.skipping &= !complete;
        }
    }

    /// Hands on what has no end of line.
    pub fn finish(&mut self, mut on_line: impl FnMut(&[u8])) {
        if !self.buffer.is_empty() {
            on_line(self.buffer.trim_ascii_end());
            self.buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| out.push(line.to_vec()));
        }
        lines.finish(|line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn pieces_become_lines() {
        assert_eq!(cut(&[b"a", b"b\n", b"c\n", b"d"]), [b"ab".to_vec(), b"c".to_vec(), b"d".to_vec()]);
    }

    #[test]
    fn a_line_without_end_is_cut_off_and_the_next_one_is_read() {
        let long = vec![b'x'; LONGEST_LINE + 1];
        let lines = cut(&[&long, &long, b"tail\n", b"next\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], b"next");
    }
}
