//! YAML -> a tree of nodes.
//!
//! Purpose: the one place that knows the YAML library. Its events become a tree: aliases and merge
//! keys are expanded, plain scalars are typed (`1e-5` is a number) and keep their spelling, quoted ones
//! stay strings.
//! Invariant: sizes and depth are bounded; a syntax error is one message with a position.
//! Must not know: what any key means.
//!
//! The library's serde side (`Spanned`) gives the same tree in twice the time, which a pipeline of
//! a thousand stages would notice, and does not tell quoted keys from plain ones.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span as Marks, Tag, options};

use crate::spec::document::node::{Data, Entry, Key, Node};
use crate::spec::document::scalar::plain_scalar;
use crate::spec::types::{FileId, Position, Span};

/// The largest pipeline file, in bytes.
pub const MAX_BYTES: usize = 64 << 20;
const MAX_NODES: usize = 4_000_000;
const MAX_EXPANDED: usize = 200_000;
const MAX_DEPTH: usize = 64;

/// Why a text is no YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// Where; nowhere when unknown.
    pub span: Span,
}

/// Reads one YAML document; an empty one is null.
///
/// # Errors
/// A syntax error, or a text beyond the bounds.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(SyntaxError { message, span: Span::default() });
    }
    let options = options! { emit_comments: false };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, marks) = event.map_err(|error| {
            let at = position(error.marker().line(), error.marker().col());
            SyntaxError { message: error.info(), span: Span::on_line(at, 1) }
        })?;
        builder.event(event, &marks)?;
    }
    Ok(builder.root.unwrap_or_default())
}

fn position(line: usize, column_from_0: usize) -> Position {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: count(line), column: count(column_from_0.saturating_add(1)) }
}

fn span_of(marks: &Marks) -> Span {
    let start = position(marks.start.line(), marks.start.col());
    Span { file: FileId::default(), start, end: position(marks.end.line(), marks.end.col()) }
}

fn refuse(marks: &Marks, message: impl Into<String>) -> SyntaxError {
    SyntaxError { message: message.into(), span: Span::on_line(span_of(marks).start, 1) }
}

/// A collection that is still open.
struct Frame {
    start: Position,
    anchor: usize,
    open: Open,
}

enum Open {
    Seq(Vec<Node>),
    Map { entries: Vec<Entry>, merges: Vec<Node>, key: Option<PendingKey> },
}

enum PendingKey {
    Plain(Key),
    /// `<<`: the value is one mapping or a list of them.
    Merge,
}

/// Builds the tree from the parser's events, without recursion.
#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    expanded: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, marks: &Marks) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                // The library calls what is not there `~`.
                let empty = style == ScalarStyle::Plain && marks.start.index() == marks.end.index();
                let text = if empty { Cow::Borrowed("") } else { text };
                let tag = tag.as_deref();
                check_tag(tag, marks)?;
                if self.wants_key() && anchor == 0 {
                    return self.key(text, style, marks);
                }
                let forced = tag.is_some_and(is_string_tag);
                let data = if style == ScalarStyle::Plain && !forced {
                    plain_scalar(Cow::Borrowed(&text))
                } else {
                    Data::String(text.to_string())
                };
                let spelling = (!matches!(data, Data::String(_))).then(|| text.into());
                let node = Node { data, span: span_of(marks), spelling, expanded: false };
                self.value(node, anchor, marks)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Open::Seq(Vec::new()), anchor, tag.as_deref(), marks)
            }
            Event::MappingStart(_, anchor, tag) => {
                let open = Open::Map { entries: Vec::new(), merges: Vec::new(), key: None };
                self.open(open, anchor, tag.as_deref(), marks)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(marks),
            Event::Alias(anchor) => self.alias(anchor, marks),
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(refuse(marks, "a pipeline file holds one YAML document, and here a second one starts"))
            }
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { open: Open::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, text: Cow<'_, str>, style: ScalarStyle, marks: &Marks) -> Result<(), SyntaxError> {
        let Some(Frame { open: Open::Map { key, .. }, .. }) = self.stack.last_mut() else { return Ok(()) };
        *key = Some(if style == ScalarStyle::Plain && text == "<<" {
            PendingKey::Merge
        } else {
            PendingKey::Plain(Key { text: text.into_owned(), span: span_of(marks) })
        });
        self.count(marks)
    }

    fn count(&mut self, marks: &Marks) -> Result<(), SyntaxError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(refuse(marks, format!("more than {MAX_NODES} values: this is no pipeline")));
        }
        Ok(())
    }

    fn open(
        &mut self,
        open: Open,
        anchor: usize,
        tag: Option<&Tag>,
        marks: &Marks,
    ) -> Result<(), SyntaxError> {
        check_tag(tag, marks)?;
        if self.wants_key() {
            return Err(refuse(marks, "a key must be a string"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(refuse(marks, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.stack.push(Frame { start: span_of(marks).start, anchor, open });
        Ok(())
    }

    fn close(&mut self, marks: &Marks) -> Result<(), SyntaxError> {
        let Some(Frame { start, anchor, open }) = self.stack.pop() else { return Ok(()) };
        let data = match open {
            Open::Seq(items) => Data::Seq(items),
            Open::Map { mut entries, merges, .. } => {
                merge(&mut entries, merges);
                Data::Map(entries)
            }
        };
        self.value(Node { data, span: Span::on_line(start, 1), ..Node::default() }, anchor, marks)
    }

    fn alias(&mut self, anchor: usize, marks: &Marks) -> Result<(), SyntaxError> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(refuse(marks, "an alias inside what it names"));
        };
        let (nodes, depth) = node.extent();
        if self.stack.len() + depth > MAX_DEPTH {
            return Err(refuse(marks, format!("nested deeper than {MAX_DEPTH}")));
        }
        let copy = node.clone();
        self.expand(nodes, marks)?;
        self.value(copy, 0, marks)
    }

    /// Bounds the copies that anchors and aliases make.
    fn expand(&mut self, nodes: usize, marks: &Marks) -> Result<(), SyntaxError> {
        self.expanded += nodes;
        if self.expanded > MAX_EXPANDED {
            return Err(refuse(marks, format!("aliases expand to more than {MAX_EXPANDED} values")));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn value(&mut self, node: Node, anchor: usize, marks: &Marks) -> Result<(), SyntaxError> {
        self.count(marks)?;
        if anchor != 0 {
            self.expand(node.extent().0, marks)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame { open: Open::Seq(items), .. }) => items.push(node),
            Some(Frame { open: Open::Map { entries, merges, key }, .. }) => match key.take() {
                Some(PendingKey::Plain(key)) => entries.push(Entry { key, value: node }),
                Some(PendingKey::Merge) => merges.extend(mappings(node, marks)?),
                None => {
                    let Data::String(text) = node.data else {
                        return Err(refuse(marks, "a key must be a string"));
                    };
                    *key = Some(PendingKey::Plain(Key { text, span: node.span }));
                }
            },
        }
        Ok(())
    }
}

/// The mappings that a merge key names.
fn mappings(node: Node, marks: &Marks) -> Result<Vec<Node>, SyntaxError> {
    let nodes = match node.data {
        Data::Seq(items) => items,
        _ => vec![node],
    };
    if nodes.iter().all(|n| matches!(n.data, Data::Map(_))) {
        return Ok(nodes);
    }
    Err(refuse(marks, "`<<` takes a mapping or a list of mappings"))
}

/// Adds the entries of merged mappings that are not there yet; earlier ones win.
fn merge(entries: &mut Vec<Entry>, merges: Vec<Node>) {
    if merges.is_empty() {
        return;
    }
    let mut known: HashSet<String> = entries.iter().map(|e| e.key.text.clone()).collect();
    for node in merges {
        let Data::Map(more) = node.data else { continue };
        entries.extend(more.into_iter().filter(|e| known.insert(e.key.text.clone())));
    }
}

fn is_string_tag(tag: &Tag) -> bool {
    tag.is_yaml_core_schema_tag("str") || (tag.handle().is_empty() && tag.suffix() == "!")
}

fn check_tag(tag: Option<&Tag>, marks: &Marks) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() && !is_string_tag(tag) => {
            Err(refuse(marks, format!("the tag `{}` means nothing here", tag.original())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn json_of(text: &str) -> Value {
        parse(text).unwrap().to_json()
    }

    fn error_of(text: &str) -> String {
        let error = parse(text).unwrap_err();
        format!("{}:{} {}", error.span.start.line, error.span.start.column, error.message)
    }

    #[test]
    fn plain_scalars_are_typed_and_quoted_ones_stay_strings() {
        assert_eq!(
            json_of("[1e-5, 1.0, 1e3, -3, 0x10, 0o17, .5, +2, true, ~, Null, '1', \"true\", !!str 7]"),
            json!([1e-5, 1, 1000, -3, 16, 15, 0.5, 2, true, null, null, "1", "true", "7"])
        );
        assert_eq!(
            json_of("[yes, on, 1_000, .inf, .nan, 1e999, 1-2, 1e, 4GiB, 0x, infinity, 1.2.3]"),
            json!([
                "yes", "on", "1_000", ".inf", ".nan", "1e999", "1-2", "1e", "4GiB", "0x", "infinity", "1.2.3"
            ])
        );
    }

    #[test]
    fn keys_and_values_know_their_line_and_column_in_characters() {
        let node = parse("é: [ü, zwei] # comment\nb:\n  c: {d: 1e-5}\n").unwrap();
        let Data::Map(entries) = &node.data else { panic!("a mapping") };
        let on = |line, column, characters| Span::on_line(Position { line, column }, characters);
        assert_eq!(entries[0].key.span, on(1, 1, 1));
        let Data::Seq(items) = &entries[0].value.data else { panic!("a list") };
        assert_eq!(items[1].span, on(1, 8, 4));
        let c = entries[1].value.get("c").unwrap();
        assert_eq!(c.get("d").unwrap().span, on(3, 10, 4));
    }

    #[test]
    fn duplicate_keys_are_kept_in_order() {
        let node = parse("{b: 1, a: 2, b: 3}").unwrap();
        let Data::Map(entries) = &node.data else { panic!("a mapping") };
        assert_eq!(entries.iter().map(|e| e.key.text.as_str()).collect::<Vec<_>>(), ["b", "a", "b"]);
        assert_eq!(node.to_json(), json!({"b": 1, "a": 2}));
    }

    #[test]
    fn aliases_and_merge_keys_are_expanded_and_explicit_keys_win() {
        let text = "a: &a {p: 1, q: 2}\nb: &b {r: 9, p: 7}\nc: {<<: [*a, *b], q: 3}\nd: *a\ne: {'<<': 1}\n";
        assert_eq!(
            json_of(text),
            json!({"a": {"p": 1, "q": 2}, "b": {"r": 9, "p": 7}, "c": {"q": 3, "p": 1, "r": 9},
                   "d": {"p": 1, "q": 2}, "e": {"<<": 1}})
        );
    }

    #[test]
    fn a_syntax_error_says_where() {
        let texts = [
            "a: [1, 2\nb: 3\n",
            "a: b: c\n",
            "a: \"x\n",
            "a: *nope\n",
            "1\n---\n2\n",
            "[1]: 2\n",
            "a: !foo 1\n",
            "a: &x [*x]\n",
            "{<<: 3}",
        ];
        let errors: Vec<_> = texts.into_iter().map(error_of).collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
            2:2 illegal placement of ':' indicator
            1:5 mapping values are not allowed in this context
            1:4 unclosed quote
            1:4 while parsing node, found unknown anchor
            2:1 a pipeline file holds one YAML document, and here a second one starts
            1:1 a key must be a string
            1:9 the tag `!foo` means nothing here
            1:8 an alias inside what it names
            1:6 `<<` takes a mapping or a list of mappings
        ");
    }

    #[test]
    fn bombs_of_aliases_and_of_depth_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let below = format!("*a{}, ", i - 1).repeat(10);
            text += &format!("a{i}: &a{i} [{below}]\n");
        }
        assert!(error_of(&text).contains("aliases expand"), "{}", error_of(&text));
        assert!(error_of(&("[".repeat(100) + &"]".repeat(100))).contains("nested deeper"));
        let tower = format!(
            "a: &a {}{}\nb: &b {}*a{}",
            "[".repeat(50),
            "]".repeat(50),
            "[".repeat(50),
            "]".repeat(50)
        );
        assert!(error_of(&tower).contains("nested deeper"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-c0-9:{}\\[\\],&*!|>'\"\\-#<~ \n\t.]{0,60}") {
            let _ = parse(&text);
        }
    }
}
