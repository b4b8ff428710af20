//! Reading prompt files: one prompt a line, as plain text or as a JSON object.

use serde_json::{Map, Value};

use crate::invalid::Invalid;
use crate::plan::{PromptLine, Settings};
use crate::seed;

/// Reads a whole prompt file.
///
/// A line that opens with `{` is a JSON object; any other line is a prompt as it stands. Blank lines
/// and, before the first prompt, a byte order mark are passed over. The first fault names its line.
pub fn parse(bytes: &[u8]) -> Result<Vec<PromptLine>, Invalid> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = Vec::new();
    for (i, raw) in bytes.split(|&byte| byte == b'\n').enumerate() {
        lines.extend(parse_line(raw, i + 1).map_err(|fault| fault.at_line(i + 1))?);
    }
    if lines.is_empty() { Err(Invalid::NoPrompts) } else { Ok(lines) }
}

fn parse_line(raw: &[u8], line: usize) -> Result<Option<PromptLine>, Invalid> {
    let text =
        std::str::from_utf8(raw).map_err(|error| Invalid::NotUtf8 { byte: error.valid_up_to() })?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with('{') {
        return parse_entry(text, line).map(Some);
    }
    Ok(Some(PromptLine { line, prompt: text.to_owned(), seed: None, settings: Settings::default() }))
}

/// Reads one JSON object that stands at `line` (from 1); the fault does not repeat the line.
pub fn parse_entry(text: &str, line: usize) -> Result<PromptLine, Invalid> {
    let not_a_line = |reason: String| Invalid::NotAPromptLine { reason };
    let mut members: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| not_a_line(error.to_string()))?;
    let prompt = match members.remove("prompt") {
        Some(Value::String(prompt)) => prompt,
        Some(other) => return Err(not_a_line(format!("the prompt is {other}: a text is needed"))),
        None => return Err(not_a_line("missing field `prompt`".to_owned())),
    };
    let seed = members.remove("seed").filter(|seed| !seed.is_null());
    Ok(PromptLine {
        line,
        prompt,
        seed: seed.as_ref().map(seed::as_text::from_value).transpose()?,
        settings: Settings::from_json(members)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_lines_may_stand_in_one_file() {
        let file = "\u{feff}a red apple\r\n\n  {\"prompt\": \"a cat\", \"seed\": \"18446744073709551615\", \"steps\": 5}\n";
        let lines = parse(file.as_bytes()).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].line, lines[0].prompt.as_str()), (1, "a red apple"));
        assert_eq!((lines[1].line, lines[1].seed, lines[1].settings.steps), (3, Some(u64::MAX), Some(5)));
    }

    #[test]
    fn every_fault_names_its_line() {
        let cases: [(&[u8], usize, &str); 6] = [
            (b"a\n\xff\xfe", 2, "NOT_UTF8"),
            (b"a\n{\"prompt\": 1}", 2, "NOT_A_PROMPT_LINE"),
            (b"{\"prompt\": \"a\", \"stpes\": 3}", 1, "NOT_A_PROMPT_LINE"),
            (b"{\"prompt\": \"a\"", 1, "NOT_A_PROMPT_LINE"),
            (b"\n\n{\"prompt\": \"a\", \"seed\": -1}", 3, "SEED_OUT_OF_RANGE"),
            (b"{\"prompt\": \"a\", \"sampler\": \"best\"}", 1, "UNKNOWN_CHOICE"),
        ];
        for (bytes, line, code) in cases {
            let fault = parse(bytes).unwrap_err();
            assert_eq!((fault.line(), fault.code()), (Some(line), code), "{fault}");
        }
    }

    #[test]
    fn an_empty_file_is_refused_with_an_example() {
        for bytes in [b"".as_slice(), b"\n \n\t\n"] {
            assert_eq!(parse(bytes).unwrap_err(), Invalid::NoPrompts);
        }
        assert!(Invalid::NoPrompts.to_string().contains("{\"prompt\""));
    }
}
