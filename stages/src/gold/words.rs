//! Words of a text.
//!
//! Purpose: the one way in which the gold rules cut text into words.
//! Invariants: words are lowercase and never empty; apostrophes and hyphens stay inside a word
//! (`o'er`, `'tis`, `ill-will`); everything else parts words.
//! Must not know: which words are good ones.

/// The words of a text in their order.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}' | '-')))
        .map(|word| word.trim_matches('-'))
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .map(|word| word.replace('\u{2019}', "'").to_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apostrophes_and_hyphens_stay_inside_words() {
        assert_eq!(words("'Tis o'er, ill-will -- no? Aye!"), ["'tis", "o'er", "ill-will", "no", "aye"]);
    }

    #[test]
    fn dashes_and_marks_alone_are_no_words() {
        assert!(words("-- ' -- ?! ...").is_empty());
    }
}
