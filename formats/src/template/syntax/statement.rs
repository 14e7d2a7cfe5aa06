//! Statements.
//!
//! Purpose: reads tags by the grammar of Jinja2 3.1 with its loop controls and the `generation` tag of transformers, and
//! writes them for minijinja. `generation` becomes two calls that note where its text begins and ends.
//! Invariant: every block is closed by its own tag; blocks nest no deeper than the bound.
//! Must not know: what tags do.

use std::collections::BTreeSet;

use super::block::{Block, Loop};
use super::expression::{Parser, RESERVED, Shape};
use super::lexer::{Kind, Token};
use super::program::Writer;
use crate::template::bounds::{MAX_BLOCK_DEPTH, MAX_ELIFS, MAX_ITEMS};
use crate::template::error::TemplateError;

type Result<T> = std::result::Result<T, TemplateError>;

/// Names that are no variables.
const WORDS: [&str; 13] =
    ["and", "or", "not", "in", "is", "if", "else", "true", "True", "false", "False", "none", "None"];

/// Writes the program; says whether it has `generation` blocks.
pub(super) fn translate(source: &str, tokens: &[Token], writer: &mut Writer) -> Result<bool> {
    let parser = Parser::new(source, tokens, writer);
    let mut statements = Statements { parser, open: Vec::new(), has_generation: false };
    while let Some(kind) = statements.parser.kind() {
        match kind {
            Kind::Data(text) => {
                statements.parser.writer.data(text);
                statements.parser.next += 1;
            }
            Kind::PrintBegin => statements.print()?,
            _ => statements.tag()?,
        }
    }
    match statements.open.last() {
        Some(block) => Err(statements
            .parser
            .error(format!("the `{0}` block has no end; write `{{% end{0} %}}`", block.name()))),
        None => Ok(statements.has_generation),
    }
}

struct Statements<'s> {
    parser: Parser<'s>,
    open: Vec<Block>,
    has_generation: bool,
}

impl Statements<'_> {
    fn print(&mut self) -> Result<()> {
        self.parser.write("{{ ");
        self.parser.next += 1;
        self.parser.tuple(false, true, None)?;
        self.end(Kind::PrintEnd, " }}")
    }

    fn end(&mut self, kind: Kind, text: &str) -> Result<()> {
        if self.parser.kind() != Some(&kind) {
            let what = format!("expected the end of the tag, found {}", self.parser.found());
            return Err(self.parser.error(what));
        }
        self.parser.next += 1;
        self.parser.writer.push(text);
        Ok(())
    }

    /// The end of a tag that opens a body; Jinja2 allows a colon there.
    fn end_of_head(&mut self) -> Result<()> {
        self.parser.skip_op(":");
        self.end(Kind::TagEnd, " %}")
    }

    fn tag(&mut self) -> Result<()> {
        let at = self.parser.at();
        self.parser.writer.mark(at);
        self.parser.next += 1;
        let name = self.parser.expect_name()?;
        match name {
            "for" => self.for_loop(),
            "if" => self.condition(),
            "elif" => self.elif(at),
            "else" => self.otherwise(at),
            "set" => self.set(),
            "macro" => self.macro_block(),
            "call" => self.call(at),
            "filter" => self.filter(),
            "with" => self.with(),
            "print" => self.print_tag(),
            "generation" => self.generation(),
            "break" | "continue" => self.jump(at, name),
            "include" | "import" | "from" | "extends" | "block" => Err(self.parser.error_at(
                at,
                format!("`{name}` is of no use: a chat template is alone, without other templates"),
            )),
            "autoescape" => Err(self.parser.error_at(at, "`autoescape` is not supported: a chat is no HTML")),
            _ => match name.strip_prefix("end") {
                Some(block) => self.close(at, block),
                None => Err(self.parser.error_at(at, format!("there is no tag `{name}`"))),
            },
        }
    }

    fn enter(&mut self, block: Block) -> Result<()> {
        self.open.push(block);
        self.parser.in_macro |= block == Block::Macro;
        match self.open.len() > MAX_BLOCK_DEPTH {
            true => Err(self.parser.error(format!("more than {MAX_BLOCK_DEPTH} blocks nest in one another"))),
            false => Ok(()),
        }
    }

    fn close(&mut self, at: usize, name: &str) -> Result<()> {
        match self.open.pop() {
            Some(block) if block.name() == name => {
                self.parser.in_macro = self.open.contains(&Block::Macro);
                if block == Block::Generation {
                    self.parser.writer.push("{{ k__generation.end() }}{% endwith %}");
                    return self.end(Kind::TagEnd, "");
                }
                match block {
                    Block::For(Loop { recursive: false, has_jump: true, has_else: true, .. }) => {
                        self.parser.writer.push("{% endif %}{% endwith");
                    }
                    Block::With => self.parser.writer.push("{% endwith %}{% endwith"),
                    _ => {
                        self.parser.writer.push("{% end");
                        self.parser.writer.push(name);
                    }
                }
                self.end(Kind::TagEnd, " %}")
            }
            Some(block) => {
                let what =
                    format!("`end{name}` closes nothing; the innermost open block is `{}`", block.name());
                Err(self.parser.error_at(at, what))
            }
            None => Err(self.parser.error_at(at, format!("`end{name}` closes nothing"))),
        }
    }

    fn for_loop(&mut self) -> Result<()> {
        let start = self.parser.writer.here();
        self.parser.writer.push("{% for ");
        self.parser.targets(Some("in"), false)?;
        if !self.parser.skip_name("in") {
            return Err(self.parser.error(format!("expected `in`, found {}", self.parser.found())));
        }
        self.parser.write(" in ");
        let iterable = self.parser.writer.here();
        let shape = self.parser.tuple(false, false, Some("recursive"))?;
        self.parser.tightened(iterable, shape);
        self.parser.writer.push("|k__iterate");
        if self.parser.is_name("if") {
            self.parser.write(" if ");
            self.parser.next += 1;
            self.parser.tight(true)?;
        }
        let recursive = self.parser.skip_name("recursive");
        if recursive {
            self.parser.writer.push(" recursive");
        }
        self.enter(Block::For(Loop { start, recursive, has_jump: false, has_else: false }))?;
        self.end_of_head()
    }

    fn condition(&mut self) -> Result<()> {
        self.parser.writer.push("{% if ");
        self.parser.tuple(false, false, None)?;
        self.enter(Block::If { elifs: 0, has_else: false })?;
        self.end_of_head()
    }

    fn elif(&mut self, at: usize) -> Result<()> {
        match self.open.last_mut() {
            Some(Block::If { elifs, has_else: false }) if *elifs < MAX_ELIFS => *elifs += 1,
            Some(Block::If { has_else: false, .. }) => {
                return Err(self.parser.error_at(at, format!("more than {MAX_ELIFS} `elif`s")));
            }
            _ => return Err(self.parser.error_at(at, "`elif` has no `if`")),
        }
        self.parser.writer.push("{% elif ");
        self.parser.tuple(false, false, None)?;
        self.end_of_head()
    }

    fn otherwise(&mut self, at: usize) -> Result<()> {
        let block = self.open.last_mut();
        match block {
            Some(Block::If { has_else, .. } | Block::For(Loop { has_else, .. })) if !*has_else => {
                *has_else = true
            }
            _ => return Err(self.parser.error_at(at, "`else` has no `if` or `for`")),
        }
        match block {
            // Jinja2 does the `else` of a loop unless an iteration came to its end; minijinja, unless one began.
            Some(Block::For(Loop { start, recursive: false, has_jump: true, .. })) => {
                self.parser.writer.insert(*start, "{% with k__flag = k__new_flag() %}");
                self.parser.writer.push("{{ k__flag.raise() }}{% endfor %}{% if not k__flag.is_up()");
            }
            _ => self.parser.writer.push("{% else"),
        }
        self.end_of_head()
    }

    /// Shows names of the tag to minijinja before it reads the tag: in a macro it would not look for them outside.
    fn show_names(&mut self, end: &str) {
        if !self.open.iter().any(|block| matches!(block, Block::Macro | Block::Call)) {
            return;
        }
        let mut names = BTreeSet::new();
        for token in &self.parser.tokens[self.parser.next..] {
            match &token.kind {
                Kind::Name(name) if !WORDS.contains(&name.as_str()) => names.insert(name),
                Kind::TagEnd => break,
                Kind::Op(operator) if *operator == end => break,
                _ => false,
            };
        }
        self.parser.writer.push("{% if false %}");
        for name in names {
            self.parser.writer.push(&format!("{{{{ {name} }}}}"));
        }
        self.parser.writer.push("{% endif %}");
    }

    fn set(&mut self) -> Result<()> {
        self.show_names("=");
        self.parser.writer.push("{% set ");
        let has_attribute = self.parser.targets(None, true)?;
        if self.parser.skip_op("=") {
            self.parser.write(" = ");
            let start = self.parser.writer.here();
            let shape = self.parser.tuple(false, true, None)?;
            if has_attribute {
                self.parser.tightened(start, shape);
                self.parser.writer.push("|k__store");
            }
            return self.end(Kind::TagEnd, " %}");
        }
        if self.parser.is_op("|") {
            self.filter_chain(false)?;
        }
        self.enter(Block::Set)?;
        self.end_of_head()
    }

    /// Filters that apply to a block.
    fn filter_chain(&mut self, bare: bool) -> Result<()> {
        let mut count = 0;
        while self.parser.is_op("|") || (bare && count == 0) {
            count += 1;
            if count > MAX_BLOCK_DEPTH {
                return Err(self.parser.error(format!("more than {MAX_BLOCK_DEPTH} filters")));
            }
            self.parser.write(if bare && count == 1 { "" } else { "|" });
            self.parser.next += usize::from(!bare || count > 1);
            self.parser.filter()?;
        }
        Ok(())
    }

    fn filter(&mut self) -> Result<()> {
        self.show_names("");
        self.parser.writer.push("{% filter ");
        self.filter_chain(true)?;
        self.enter(Block::Filter)?;
        self.end_of_head()
    }

    fn macro_block(&mut self) -> Result<()> {
        let at = self.parser.at();
        let name = self.parser.expect_name()?;
        if matches!(name, "loop" | "self" | "super" | "caller") {
            return Err(self.parser.error_at(at, format!("`{name}` cannot be a macro; take another name")));
        }
        self.parser.writer.push("{% macro ");
        self.parser.writer.push(name);
        self.parser.signature()?;
        self.enter(Block::Macro)?;
        self.end_of_head()
    }

    fn call(&mut self, at: usize) -> Result<()> {
        self.parser.writer.push("{% call");
        if self.parser.is_op("(") {
            self.parser.signature()?;
        }
        self.parser.writer.push(" ");
        if self.parser.expression(true)? != Shape::Call {
            return Err(self.parser.error_at(at, "`call` takes the call of a macro by its name"));
        }
        self.enter(Block::Call)?;
        self.end_of_head()
    }

    /// All values are made before any name is set, so they get names of their own first.
    fn with(&mut self) -> Result<()> {
        self.parser.writer.push("{% with ");
        let mut names = String::new();
        let mut count = 0;
        while self.parser.kind() != Some(&Kind::TagEnd) && !self.parser.is_op(":") {
            if count > 0 {
                self.parser.expect_op(",")?;
                self.parser.writer.push(", ");
                names.push_str(", ");
            }
            if count == MAX_ITEMS {
                return Err(self.parser.error(format!("more than {MAX_ITEMS} names")));
            }
            let place = self.parser.writer.here();
            self.parser.target(false)?;
            let name = self.parser.writer.take(place);
            names.push_str(&format!("{name} = {RESERVED}{count}"));
            self.parser.expect_op("=")?;
            self.parser.writer.push(&format!("{RESERVED}{count} = "));
            self.parser.expression(true)?;
            count += 1;
        }
        self.parser.writer.push(&format!(" %}}{{% with {names}"));
        self.enter(Block::With)?;
        self.end_of_head()
    }

    fn print_tag(&mut self) -> Result<()> {
        let mut count = 0;
        while self.parser.kind() != Some(&Kind::TagEnd) {
            if count > 0 {
                self.parser.expect_op(",")?;
            }
            count += 1;
            self.parser.writer.push("{{ ");
            self.parser.expression(true)?;
            self.parser.writer.push(" }}");
        }
        self.end(Kind::TagEnd, "")
    }

    fn generation(&mut self) -> Result<()> {
        self.has_generation = true;
        let gathered = self.open.iter().any(|block| block.is_gathered());
        let flag = if gathered { "true" } else { "false" };
        self.parser.writer.push(&format!("{{% with %}}{{{{ {RESERVED}generation.begin({flag}) }}}}"));
        self.enter(Block::Generation)?;
        self.parser.skip_op(":");
        self.end(Kind::TagEnd, "")
    }

    /// `break` and `continue` leave nothing but conditions and scopes on their way to the loop.
    fn jump(&mut self, at: usize, name: &str) -> Result<()> {
        for block in self.open.iter_mut().rev() {
            match block {
                Block::For(found) if !found.has_else => {
                    found.has_jump = true;
                    self.parser.writer.push("{% ");
                    self.parser.writer.push(name);
                    return self.end(Kind::TagEnd, " %}");
                }
                Block::If { .. } | Block::With | Block::For(_) => {}
                other => {
                    let what = format!("`{name}` cannot leave the `{}` block around it", other.name());
                    return Err(self.parser.error_at(at, what));
                }
            }
        }
        Err(self.parser.error_at(at, format!("`{name}` stands in no loop")))
    }
}
