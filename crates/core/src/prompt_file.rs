//! Reading prompt files: one prompt a line, as plain text or as a JSON object.

use serde::Deserialize;

use crate::invalid::Invalid;
use crate::plan::{PromptLine, Settings};
use crate::sampling::Sampler;
use crate::seed;

/// One line of a JSON Lines prompt file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    prompt: String,
    negative_prompt: Option<String>,
    seed: Option<serde_json::Value>,
    width: Option<u32>,
    height: Option<u32>,
    steps: Option<u32>,
    guidance: Option<f64>,
    sampler: Option<String>,
}

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
    let json: JsonLine =
        serde_json::from_str(text).map_err(|error| Invalid::NotAPromptLine { reason: error.to_string() })?;
    Ok(PromptLine {
        line,
        prompt: json.prompt,
        seed: json.seed.as_ref().map(seed::as_text::from_value).transpose()?,
        settings: Settings {
            negative_prompt: json.negative_prompt,
            width: json.width,
            height: json.height,
            steps: json.steps,
            guidance: json.guidance,
            sampler: json.sampler.as_deref().map(Sampler::from_name).transpose()?,
        },
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
