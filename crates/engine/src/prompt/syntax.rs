//! The weighted syntax: brackets that make words count more or less, and `BREAK`.
//!
//! The grammar is that of the AUTOMATIC1111 web interface (`parse_prompt_attention`), learnt from its
//! documentation and its published examples, so that a prompt means here what it means there:
//!
//! | written | read as |
//! |---|---|
//! | `(text)` | text, its weight times 1.1 |
//! | `(text:1.3)` | text, its weight times 1.3; digits and dots, a sign before them, spaces around them |
//! | `[text]` | text, its weight divided by 1.1 |
//! | `\(` `\)` `\[` `\]` `\\` | the character itself |
//! | `BREAK` as a word of its own | what follows begins a new chunk |
//! | a bracket that is never closed | as if it were closed at the end |
//! | a bracket that was never opened | the character itself |
//!
//! Round and square brackets are matched apart from one another. Nothing here recurses. That interface also
//! changes prompts between steps (`[from:to:step]`, `[a|b]`) and joins them (`AND`): here these are words, and
//! [`Parsed::edits`] tells.

use crate::{Error, Result};

/// What a pair of round brackets multiplies a weight with.
const ROUND: f64 = 1.1;
/// What a pair of square brackets multiplies a weight with.
const SQUARE: f64 = 1.0 / 1.1;
/// Weights lie within this, on both sides of zero.
const MOST_WEIGHT: f64 = 20.0;
/// Most brackets that are open at once. Thirty-two round ones alone make a weight of more than 20.
const MOST_OPEN: usize = 256;
/// The word that begins a new chunk.
const BREAK: &str = "BREAK";
/// The word that joins prompts elsewhere.
const AND: &str = "AND";
/// The weight that a break has unless brackets around it change it.
const BREAK_WEIGHT: f64 = -1.0;
/// Longest excerpt of a prompt in a message, in characters.
const EXCERPT_CHARS: usize = 40;

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// Words that share a weight.
    Text { text: String, weight: f64 },
    /// The end of a chunk.
    Break,
}

/// One lexical unit of a prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit<'a> {
    /// A character that a backslash stands before; empty where the backslash stands alone.
    Escaped(&'a str),
    OpenRound,
    OpenSquare,
    CloseRound,
    CloseSquare,
    /// `:1.3)`, with the number and the whole.
    Weight(&'a str, &'a str),
    Text(&'a str),
}

/// The rest of a prompt that is still to be cut into units.
struct Units<'a>(&'a str);

impl<'a> Iterator for Units<'a> {
    type Item = Unit<'a>;

    fn next(&mut self) -> Option<Unit<'a>> {
        let rest = self.0;
        let (unit, length) = match rest.chars().next()? {
            '\\' => match rest[1..].chars().next() {
                Some('(' | ')' | '[' | ']' | '\\') => (Unit::Escaped(&rest[1..2]), 2),
                _ => (Unit::Escaped(""), 1),
            },
            '(' => (Unit::OpenRound, 1),
            '[' => (Unit::OpenSquare, 1),
            ')' => (Unit::CloseRound, 1),
            ']' => (Unit::CloseSquare, 1),
            ':' => match number_before_bracket(&rest[1..]) {
                Some((number, length)) => (Unit::Weight(number, &rest[..=length]), length + 1),
                None => (Unit::Text(":"), 1),
            },
            _ => {
                let length = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                (Unit::Text(&rest[..length]), length)
            }
        };
        self.0 = &rest[length..];
        Some(unit)
    }
}

/// A number that a closing bracket follows, if `text` begins with one, and the length up to that bracket's end.
/// Spaces may stand around the number.
fn number_before_bracket(text: &str) -> Option<(&str, usize)> {
    let start = text.trim_start();
    let signed = start.strip_prefix(['+', '-']).unwrap_or(start);
    let after = signed.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let number = &start[..start.len() - after.len()];
    let behind = after.trim_start().strip_prefix(')')?;
    (after.len() < signed.len()).then(|| (number, text.len() - behind.len()))
}

/// Words of one weight while brackets around them are still open.
struct Entry {
    text: String,
    weight: f64,
    is_break: bool,
}

/// The entries so far, and where the open brackets stand among them.
#[derive(Default)]
struct Parser {
    entries: Vec<Entry>,
    round: Vec<usize>,
    square: Vec<usize>,
    /// Whether something is written that changes prompts between steps, or joins them.
    edits: bool,
}

impl Parser {
    fn take(&mut self, unit: Unit<'_>) -> Result<()> {
        match unit {
            Unit::OpenRound => self.round.push(self.entries.len()),
            Unit::OpenSquare => self.square.push(self.entries.len()),
            _ => self.take_other(unit)?,
        }
        if self.round.len() + self.square.len() > MOST_OPEN {
            return Err(Error::Recipe(format!(
                "more than {MOST_OPEN} brackets of the prompt are open at once"
            )));
        }
        Ok(())
    }

    fn take_other(&mut self, unit: Unit<'_>) -> Result<()> {
        match unit {
            Unit::OpenRound | Unit::OpenSquare => {}
            Unit::Escaped(character) => self.push(character),
            Unit::CloseRound => match self.round.pop() {
                Some(start) => self.multiply(start, ROUND),
                None => self.push(")"),
            },
            Unit::CloseSquare => match self.square.pop() {
                Some(start) => {
                    self.edits |= is_edit(&self.entries[start..]);
                    self.multiply(start, SQUARE);
                }
                None => self.push("]"),
            },
            Unit::Weight(number, whole) => match self.round.pop() {
                Some(start) => self.multiply(start, weight(number)?),
                None => self.push(whole),
            },
            Unit::Text(text) => self.push_words(text),
        }
        Ok(())
    }

    fn push(&mut self, text: &str) {
        self.entries.push(Entry { text: text.to_owned(), weight: 1.0, is_break: false });
    }

    /// Pushes a text, cut wherever `BREAK` stands as a word of its own.
    fn push_words(&mut self, text: &str) {
        self.edits |= split_at(text, AND).is_some();
        let mut rest = text;
        while let Some((before, after)) = split_at(rest, BREAK) {
            self.push(before);
            self.entries.push(Entry { text: BREAK.to_owned(), weight: BREAK_WEIGHT, is_break: true });
            rest = after;
        }
        self.push(rest);
    }

    fn multiply(&mut self, start: usize, factor: f64) {
        self.entries[start..].iter_mut().for_each(|entry| entry.weight *= factor);
    }

    fn close_all(&mut self) {
        for start in std::mem::take(&mut self.round) {
            self.multiply(start, ROUND);
        }
        for start in std::mem::take(&mut self.square) {
            self.multiply(start, SQUARE);
        }
    }
}

/// The text before and after the first place where `word` is a word of its own, without the spaces around it.
fn split_at<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).find_map(|(at, found)| {
        let (before, after) = (&text[..at], &text[at + found.len()..]);
        let alone = !before.ends_with(in_word) && !after.starts_with(in_word);
        alone.then(|| (before.trim_end(), after.trim_start()))
    })
}

/// Whether what stands in square brackets changes between steps: words on both sides of `|`, or a step behind
/// the last `:`.
fn is_edit(entries: &[Entry]) -> bool {
    let step = |text: &str| text.trim().parse::<f64>().is_ok();
    let last_two = entries.len().checked_sub(2).map(|first| &entries[first..]);
    entries.iter().any(|entry| entry.text.contains('|'))
        || last_two.is_some_and(|two| two[0].text == ":" && step(&two[1].text))
}

fn weight(number: &str) -> Result<f64> {
    number.parse().map_err(|_| {
        Error::Recipe(format!(
            "':{}' in the prompt is not a weight: write for example (word:1.2)",
            excerpt(number)
        ))
    })
}

/// A prompt in pieces.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    /// At least one.
    pub pieces: Vec<Piece>,
    /// Whether any piece is a `BREAK` that brackets made into a word: they change its weight, and the
    /// reference then reads it so.
    pub bracketed_break: bool,
    /// Whether something is written that elsewhere changes prompts between steps, or joins them.
    pub edits: bool,
}

/// Reads a prompt in the weighted syntax. Neighbours of equal weight become one piece.
///
/// Errors: a weight that is not a number or outside -20 to 20; brackets that are nested too deep.
pub(super) fn parse(prompt: &str) -> Result<Parsed> {
    let mut parser = Parser::default();
    Units(prompt).try_for_each(|unit| parser.take(unit))?;
    parser.close_all();
    let mut parsed = Parsed { pieces: Vec::new(), bracketed_break: false, edits: parser.edits };
    for entry in parser.entries {
        parsed.push(entry)?;
    }
    if parsed.pieces.is_empty() {
        parsed.pieces.push(Piece::Text { text: String::new(), weight: 1.0 });
    }
    Ok(parsed)
}

impl Parsed {
    fn push(&mut self, Entry { text, weight, is_break }: Entry) -> Result<()> {
        if is_break && weight == BREAK_WEIGHT {
            self.pieces.push(Piece::Break);
            return Ok(());
        }
        if !(-MOST_WEIGHT..=MOST_WEIGHT).contains(&weight) {
            let text = excerpt(&text);
            return Err(Error::Recipe(format!(
                "the weight {weight} of '{text}' in the prompt is outside -{MOST_WEIGHT} to {MOST_WEIGHT}"
            )));
        }
        self.bracketed_break |= is_break;
        match self.pieces.last_mut() {
            Some(Piece::Text { text: last, weight: same }) if *same == weight => last.push_str(&text),
            _ => self.pieces.push(Piece::Text { text, weight }),
        }
        Ok(())
    }
}

/// The beginning of a text, for messages.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(prompt: &str) -> String {
        parse(prompt).unwrap_err().to_string()
    }

    #[test]
    fn weights_out_of_range_and_numbers_that_are_none_are_refused() {
        assert!(refusal("(cat:21)").contains("the weight 21 of 'cat' in the prompt is outside -20 to 20"));
        assert!(refusal("(cat:-20.5)").contains("-20.5"));
        assert!(refusal("(cat:1.2.3)").contains("':1.2.3' in the prompt is not a weight"));
        assert!(refusal("(cat:.)").contains("not a weight"));
        assert!(refusal(&format!("(cat:{})", "9".repeat(400))).contains("the weight inf of 'cat'"));
        assert!(parse("(cat:20)(dog:-20)").is_ok());
    }

    #[test]
    fn brackets_that_are_nested_too_deep_are_refused() {
        let deep = |depth: usize| format!("{}cat{}", "([".repeat(depth), "])".repeat(depth));
        let parsed = parse(&deep(MOST_OPEN / 2)).unwrap();
        let [Piece::Text { text, weight }] = &parsed.pieces[..] else { panic!("{parsed:?}") };
        assert_eq!(text, "cat");
        assert!((weight - 1.0).abs() < 1e-9, "{weight}");
        assert!(refusal(&deep(MOST_OPEN / 2 + 1)).contains("more than 256 brackets"));
        assert!(refusal(&"(".repeat(60_000)).contains("more than 256 brackets"));
    }

    #[test]
    fn a_break_inside_brackets_is_told() {
        assert!(parse("(a BREAK b)").unwrap().bracketed_break);
        assert!(!parse("a BREAK (b)").unwrap().bracketed_break);
    }

    #[test]
    fn what_elsewhere_changes_between_steps_is_told() {
        for prompt in ["[cat:dog:0.5]", "[cat: 5 ]", "a [cat|dog]", "a cat AND a dog", "[a (b:1.2)|c]"] {
            assert!(parse(prompt).unwrap().edits, "{prompt}");
        }
        for prompt in ["[cat]", "a|b", "(cat:0.5)", "[a: b]", "ANDROID", "salt and pepper", "[a (b:1.2)]"] {
            assert!(!parse(prompt).unwrap().edits, "{prompt}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(prompt in "[a-z()\\[\\]\\\\:.0-9 BREAK+-]{0,80}|.{0,40}") {
            if let Ok(parsed) = parse(&prompt) {
                prop_assert!(!parsed.pieces.is_empty());
            }
        }

        #[test]
        fn words_without_marks_are_one_piece_as_they_stand(words in "[a-z ,.!?']{1,60}") {
            prop_assert_eq!(parse(&words).unwrap().pieces, [Piece::Text { text: words.clone(), weight: 1.0 }]);
        }
    }
}
