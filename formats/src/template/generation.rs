//! Where `{% generation %}` blocks begin and end in the rendered text.
//!
//! Purpose: the tag becomes two calls of an object of the rendering, which know how many bytes have been written. No mark is
//! written into the text, so that none can be forged.
//! Invariant: ranges rise and do not overlap. A block whose text is gathered before it is written has no range.
//! Must not know: templates.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};

use super::bounds::MAX_OUTPUT;
use super::python::{Result, State, error};

/// The variable that `syntax` writes.
pub(super) const NAME: &str = "k__generation";

/// The marks of one rendering.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    written: AtomicUsize,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    /// Where the open blocks began; nothing for those without a place.
    open: Vec<Option<usize>>,
    ranges: Vec<Range<usize>>,
    unplaced: usize,
}

impl Marks {
    /// The object for the template.
    pub(super) fn value(&self) -> Value {
        Value::from_dyn_object(self.0.clone())
    }

    /// The ranges and the number of blocks without one.
    pub(super) fn ranges(&self) -> (Vec<Range<usize>>, usize) {
        let mut blocks = self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut blocks.ranges), blocks.unplaced)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the marks of a rendering")
    }
}

impl Object for Shared {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        given: &[Value],
    ) -> Result<Value> {
        let written = self.written.load(Ordering::Relaxed);
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        match method {
            "begin" => {
                let gathered = given.first().is_some_and(Value::is_true);
                blocks.open.push((!gathered).then_some(written));
            }
            "end" => match blocks.open.pop() {
                Some(Some(begin)) if blocks.open.is_empty() => blocks.ranges.push(begin..written),
                Some(None) => blocks.unplaced += 1,
                _ => {}
            },
            other => return Err(error(format!("there is no `{other}`"))),
        }
        Ok(Value::from(""))
    }
}

/// Takes the text and counts it.
pub(super) struct Sink<'t> {
    text: &'t mut Vec<u8>,
    marks: Marks,
}

impl<'t> Sink<'t> {
    /// Writes to `text`, for those marks.
    pub(super) fn new(text: &'t mut Vec<u8>, marks: &Marks) -> Self {
        Self { text, marks: marks.clone() }
    }
}

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too long a text"));
        }
        self.text.extend_from_slice(bytes);
        self.marks.0.written.store(self.text.len(), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
