//! CLIP's tokenizer: a prompt to the ids of the text window.
//!
//! Reference: transformers' `CLIPTokenizer`, with `padding="max_length"` and `truncation=True`. What is
//! cut off is reported, never dropped in silence.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::clip::ClipConfig;
use crate::config::read_bounded;
use crate::source::TokenizerSource;
use crate::vocabulary::{CLIP_MERGES, CLIP_WINDOW, clip_vocabulary};
use crate::{Error, Result};

/// Largest tokenizer file that is read, in bytes.
pub(crate) const MAX_TOKENIZER_BYTES: u64 = 64 << 20;
/// Longest prompt that is tokenized, in bytes.
const MAX_PROMPT_BYTES: usize = 64 << 10;
const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// A comma as a word of its own.
const COMMA: &str = ",</w>";
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A prompt as the text encoder will read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptTokens {
    /// Ids of the whole window: begin, the prompt, end, padding.
    pub ids: Vec<u32>,
    /// Tokens of the prompt that fit, without begin and end.
    pub kept: usize,
    /// The prompt's last part, which did not fit and will not be read; empty if all of it did.
    pub cut_off: String,
}

/// One token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub id: u32,
    /// Where it begins in the text, in bytes.
    pub start: usize,
}

/// A loaded tokenizer.
pub(crate) struct PromptTokenizer {
    folder: PathBuf,
    inner: tokenizers::Tokenizer,
    begin: u32,
    end: u32,
    pad: u32,
    window: usize,
}

impl PromptTokenizer {
    /// Reads `tokenizer.json`, or `vocab.json` and `merges.txt` where that is absent, or takes what is built
    /// in, and holds every id against the text encoder's vocabulary.
    pub fn load(source: &TokenizerSource, clip: &ClipConfig) -> Result<Self> {
        let (folder, options, definition) = match source {
            TokenizerSource::Folder(folder) => {
                let options = Options::read(folder)?;
                let single = folder.join("tokenizer.json");
                let definition = if single.is_file() {
                    read_bounded(&single, MAX_TOKENIZER_BYTES)?
                } else {
                    definition(folder, &options)?
                };
                (folder.as_path(), options, definition)
            }
            TokenizerSource::BuiltIn { padding } => {
                let options = Options { pad: (*padding).to_owned(), window: Some(CLIP_WINDOW) };
                let definition = assemble(clip_vocabulary([BEGIN, END]), CLIP_MERGES, &options);
                (Path::new("the built-in vocabulary"), options, definition)
            }
        };
        let fault = |reason: String| Error::Malformed { path: folder.to_owned(), reason };
        let mut inner = tokenizers::Tokenizer::from_bytes(definition)
            .map_err(|error| fault(format!("not a tokenizer: {error}")))?;
        // Both are done below, where what is cut off is known.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| fault(error.to_string()))?;
        let id = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| fault(format!("the vocabulary lacks the token '{token}'")))
        };
        let (begin, end, pad) = (id(BEGIN)?, id(END)?, id(&options.pad)?);
        if let Some((token, id)) =
            inner.get_vocab(true).into_iter().find(|(_, id)| *id as usize >= clip.vocabulary)
        {
            let limit = clip.vocabulary;
            return Err(fault(format!(
                "token '{token}' has id {id}, but the text encoder knows ids below {limit}"
            )));
        }
        let window = options.window.map_or(clip.window, |window| window.min(clip.window));
        if window < 3 {
            return Err(fault(format!(
                "model_max_length {window} leaves no room for a prompt: at least 3 is needed"
            )));
        }
        Ok(Self { folder: folder.to_owned(), inner, begin, end, pad, window })
    }

    /// Tokenizes a prompt into one window.
    pub fn tokenize(&self, prompt: &str) -> Result<PromptTokens> {
        let tokens = self.encode(prompt)?;
        let room = self.window - 2;
        let kept = tokens.len().min(room);
        let cut_at = tokens.get(room).map_or(prompt.len(), |token| token.start);
        let ids = self.window_of(tokens[..kept].iter().map(|token| token.id));
        Ok(PromptTokens { ids, kept, cut_off: prompt.get(cut_at..).unwrap_or_default().to_owned() })
    }

    /// All tokens of a text, without begin, end and padding.
    ///
    /// Errors: a text that is too long.
    pub fn encode(&self, text: &str) -> Result<Vec<Token>> {
        check_length(text)?;
        let encoding = self.inner.encode(text, false).map_err(|error| Error::Malformed {
            path: self.folder.clone(),
            reason: format!("the tokenizer failed: {error}"),
        })?;
        let places = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(places.map(|(id, (start, _))| Token { id: *id, start: *start }).collect())
    }

    /// A whole window: begin, `ids`, of which it has room for all but two places, end, padding.
    pub fn window_of(&self, ids: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut window = Vec::with_capacity(self.window);
        window.push(self.begin);
        window.extend(ids.into_iter().take(self.window - 2));
        window.push(self.end);
        window.resize(self.window, self.pad);
        window
    }

    /// Tokens of the text window, begin and end included.
    pub fn window(&self) -> usize {
        self.window
    }

    /// The token that every window begins with.
    pub fn begin(&self) -> u32 {
        self.begin
    }

    /// The token of a comma, if the vocabulary has one.
    pub fn comma(&self) -> Option<u32> {
        self.inner.token_to_id(COMMA)
    }

    /// Where the tokenizer was read from.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

/// Refuses a text that is longer than any prompt may be.
pub(crate) fn check_length(text: &str) -> Result<()> {
    if text.len() <= MAX_PROMPT_BYTES {
        return Ok(());
    }
    let given = text.len();
    Err(Error::Recipe(format!("a prompt of {given} bytes is longer than the limit of {MAX_PROMPT_BYTES}")))
}

/// What the small files beside the vocabulary say.
struct Options {
    pad: String,
    window: Option<usize>,
}

impl Options {
    fn read(folder: &Path) -> Result<Self> {
        let config = read_object(&folder.join("tokenizer_config.json"))?;
        let special = read_object(&folder.join("special_tokens_map.json"))?;
        let pad = [&special, &config].into_iter().find_map(|file| token_text(file.get("pad_token")?));
        let window = config.get("model_max_length").and_then(Value::as_u64);
        Ok(Self {
            pad: pad.unwrap_or_else(|| END.to_owned()),
            window: window.and_then(|window| usize::try_from(window).ok()),
        })
    }
}

/// A token is written as its text or as an object with its text.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// An optional JSON object: an absent file is empty.
fn read_object(path: &Path) -> Result<Map<String, Value>> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    parse(path, &read_bounded(path, MAX_TOKENIZER_BYTES)?)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Malformed {
        path: path.to_owned(),
        reason: format!("not valid JSON: {error}"),
    })
}

/// Builds the one-file form from `vocab.json` and `merges.txt`, with CLIP's normalisation and splitting.
fn definition(folder: &Path, options: &Options) -> Result<Vec<u8>> {
    let vocab_path = folder.join("vocab.json");
    let vocab: Map<String, Value> = parse(&vocab_path, &read_bounded(&vocab_path, MAX_TOKENIZER_BYTES)?)?;
    let merges_path = folder.join("merges.txt");
    let merges = String::from_utf8(read_bounded(&merges_path, MAX_TOKENIZER_BYTES)?)
        .map_err(|error| Error::Malformed { path: merges_path, reason: error.to_string() })?;
    Ok(assemble(vocab, &merges, options))
}

/// The one-file form of a vocabulary and its merges, one a line.
fn assemble(vocab: Map<String, Value>, merges: &str, options: &Options) -> Vec<u8> {
    let merges: Vec<&str> =
        merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).collect();
    let mut special = vec![BEGIN, END];
    if !special.contains(&options.pad.as_str()) {
        special.push(&options.pad);
    }
    let added: Vec<Value> =
        special.iter().filter_map(|token| Some(added_token(token, vocab.get(*token)?))).collect();
    let whole = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "model": {
            "type": "BPE", "unk_token": END, "end_of_word_suffix": "</w>", "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    });
    whole.to_string().into_bytes()
}

fn added_token(token: &str, id: &Value) -> Value {
    json!({
        "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
}
