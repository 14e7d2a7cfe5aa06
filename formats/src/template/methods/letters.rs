//! What Python knows of characters.
//!
//! Purpose: the cases of letters, and the `is..` methods of `str`.
//! Invariant: the tables are those of Unicode, as the `regex` crate and the standard library have them.
//! Must not know: values.

use std::sync::OnceLock;

use regex::Regex;

/// A class of characters by its expression.
struct Class(OnceLock<Option<Regex>>, &'static str);

impl Class {
    const fn new(expression: &'static str) -> Self {
        Self(OnceLock::new(), expression)
    }

    fn has(&self, character: char) -> bool {
        let class = self.0.get_or_init(|| Regex::new(&format!(r"\A{}\z", self.1)).ok());
        class.as_ref().is_some_and(|class| class.is_match(character.encode_utf8(&mut [0; 4])))
    }
}

static LETTER: Class = Class::new(r"\p{L}");
static DECIMAL: Class = Class::new(r"\p{Nd}");
static NUMBER: Class = Class::new(r"\p{N}");
static TITLE: Class = Class::new(r"\p{Lt}");
static START: Class = Class::new(r"[\p{XID_Start}_]");
static CONTINUE: Class = Class::new(r"\p{XID_Continue}");

/// Digits that are no decimals: superscripts, subscripts, circled and the like (Unicode's Numeric_Type=Digit).
const DIGITS: [(char, char); 17] = [
    ('\u{b2}', '\u{b3}'),
    ('\u{b9}', '\u{b9}'),
    ('\u{1369}', '\u{1371}'),
    ('\u{19da}', '\u{19da}'),
    ('\u{2070}', '\u{2070}'),
    ('\u{2074}', '\u{2079}'),
    ('\u{2080}', '\u{2089}'),
    ('\u{2460}', '\u{2468}'),
    ('\u{2474}', '\u{247c}'),
    ('\u{2488}', '\u{2490}'),
    ('\u{24ea}', '\u{24ea}'),
    ('\u{24f5}', '\u{24fd}'),
    ('\u{24ff}', '\u{24ff}'),
    ('\u{2776}', '\u{277e}'),
    ('\u{2780}', '\u{2788}'),
    ('\u{278a}', '\u{2792}'),
    ('\u{10a40}', '\u{10a43}'),
];
const MORE_DIGITS: [(char, char); 3] =
    [('\u{10e60}', '\u{10e68}'), ('\u{11052}', '\u{1105a}'), ('\u{1f100}', '\u{1f10a}')];

/// Ideographs that are numbers, though their category is that of letters (as Unicode 15 has them).
const IDEOGRAPHS: &str = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百 \
    肆萬貮貳贰阡陆陌陸零參拾兩零六陸什𠀁𠁤𠃢𠄡𠤪𠦃𠦌𠦜𠫪𠫽𠬙𢎐𢦘𣬛𦉭廾";

fn is_decimal(character: char) -> bool {
    if character.is_ascii() { character.is_ascii_digit() } else { DECIMAL.has(character) }
}

fn is_digit(character: char) -> bool {
    let within = |range: &(char, char)| (range.0..=range.1).contains(&character);
    is_decimal(character) || DIGITS.iter().any(within) || MORE_DIGITS.iter().any(within)
}

fn is_numeric(character: char) -> bool {
    is_decimal(character)
        || (!character.is_ascii() && (NUMBER.has(character) || IDEOGRAPHS.contains(character)))
}

fn is_alpha(character: char) -> bool {
    if character.is_ascii() { character.is_ascii_alphabetic() } else { LETTER.has(character) }
}

/// `istitle`-case letters: neither upper nor lower.
fn is_title(character: char) -> bool {
    !character.is_ascii() && TITLE.has(character)
}

/// The methods that ask of every character; nothing for other names.
pub(super) fn is_all(name: &str, text: &str) -> Option<bool> {
    let test: fn(char) -> bool = match name {
        "isalnum" => |character| is_alpha(character) || is_numeric(character) || is_digit(character),
        "isalpha" => is_alpha,
        "isdecimal" => is_decimal,
        "isdigit" => is_digit,
        "isnumeric" => |character| is_numeric(character) || is_digit(character),
        "isspace" => crate::template::syntax::is_space,
        "isascii" => return Some(text.is_ascii()),
        "isprintable" => return Some(text.chars().all(crate::template::python::text::is_printable)),
        "isidentifier" => return Some(is_identifier(text)),
        "islower" => return Some(is_lower(text)),
        "isupper" => return Some(is_upper(text)),
        "istitle" => return Some(is_title_case(text)),
        _ => return None,
    };
    Some(!text.is_empty() && text.chars().all(test))
}

fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| START.has(first)) && characters.all(|next| CONTINUE.has(next))
}

/// `islower`: some letter is lower, none upper or title.
pub(in crate::template) fn is_lower(text: &str) -> bool {
    let other = |character: char| character.is_uppercase() || is_title(character);
    text.chars().any(char::is_lowercase) && !text.chars().any(other)
}

/// `isupper`: some letter is upper, none lower or title.
pub(in crate::template) fn is_upper(text: &str) -> bool {
    let other = |character: char| character.is_lowercase() || is_title(character);
    text.chars().any(char::is_uppercase) && !text.chars().any(other)
}

fn is_title_case(text: &str) -> bool {
    let (mut cased, mut inside) = (false, false);
    for character in text.chars() {
        if character.is_uppercase() || is_title(character) {
            if inside {
                return false;
            }
            (cased, inside) = (true, true);
        } else if character.is_lowercase() {
            if !inside {
                return false;
            }
            cased = true;
        } else {
            inside = false;
        }
    }
    cased
}

/// A character at the beginning of a word in a title.
fn titled(out: &mut String, character: char) {
    match character {
        '\u{1c4}'..='\u{1c6}' => out.push('\u{1c5}'),
        '\u{1c7}'..='\u{1c9}' => out.push('\u{1c8}'),
        '\u{1ca}'..='\u{1cc}' => out.push('\u{1cb}'),
        '\u{1f1}'..='\u{1f3}' => out.push('\u{1f2}'),
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => out.push(character),
        // Greek letters with a iota below keep it below.
        '\u{1f80}'..='\u{1faf}' => out.extend(char::from_u32(u32::from(character) | 8)),
        '\u{1fb3}' | '\u{1fbc}' => out.push('\u{1fbc}'),
        '\u{1fc3}' | '\u{1fcc}' => out.push('\u{1fcc}'),
        '\u{1ff3}' | '\u{1ffc}' => out.push('\u{1ffc}'),
        '\u{1fb2}' | '\u{1fb4}' | '\u{1fb7}' | '\u{1fc2}' | '\u{1fc4}' | '\u{1fc7}' | '\u{1ff2}'
        | '\u{1ff4}' | '\u{1ff7}' => {
            let upper: Vec<char> = character.to_uppercase().collect();
            let (last, first) = upper.split_last().unwrap_or((&character, &[]));
            out.extend(first);
            out.push(if *last == '\u{399}' { '\u{345}' } else { *last });
        }
        '\u{df}' | '\u{fb00}'..='\u{fb06}' | '\u{fb13}'..='\u{fb17}' | '\u{587}' => {
            let mut upper = character.to_uppercase();
            out.extend(upper.next());
            out.extend(upper.flat_map(char::to_lowercase));
        }
        _ => out.extend(character.to_uppercase()),
    }
}

/// `title`: every word begins with a capital.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    let characters: Vec<char> = text.chars().collect();
    for (index, character) in characters.iter().enumerate() {
        match inside {
            true => push_lower(&mut out, &characters, index),
            false => titled(&mut out, *character),
        }
        inside = character.is_lowercase() || character.is_uppercase() || is_title(*character);
    }
    out
}

/// The lower case of a character, which for a sigma depends on its neighbours.
fn push_lower(out: &mut String, characters: &[char], index: usize) {
    if characters[index] != '\u{3a3}' {
        out.extend(characters[index].to_lowercase());
        return;
    }
    let ends = !characters.get(index + 1).is_some_and(|next| is_alpha(*next));
    out.push(if ends { 'ς' } else { 'σ' });
}

/// `capitalize`: the first character as in a title, the others lower.
pub(in crate::template) fn capitalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let Some(first) = text.chars().next() else { return out };
    titled(&mut out, first);
    // The whole text decides whether a sigma is the last of its word.
    let lower = text.to_lowercase();
    let skip: usize = first.to_lowercase().map(char::len_utf8).sum();
    out.push_str(lower.get(skip..).unwrap_or_default());
    out
}

/// A word as the filter `title` writes it: the first character upper, the others lower.
pub(in crate::template) fn title_word(word: &str) -> String {
    let mut characters = word.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + &characters.as_str().to_lowercase()
}

/// `swapcase`.
pub(super) fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_uppercase() {
            out.extend(character.to_lowercase());
        } else if character.is_lowercase() {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
    }
    out
}

/// `casefold`: lower case, with the sharp s and its like spelled out. Cherokee folds to its older, upper letters.
pub(super) fn case_fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{131}' => out.push(character),
            '\u{13a0}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => out.extend(character.to_uppercase()),
            _ => out.extend(character.to_uppercase().flat_map(char::to_lowercase)),
        }
    }
    out
}
