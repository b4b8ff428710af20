//! The texts of a run, as the networks are shown them.

use seedfarm_core::Recipe;

use crate::Result;
use crate::clip::Encoded;
use crate::embeddings::TextKey;
use crate::networks::Networks;
use crate::prompt;

/// What the network is shown of one image's texts.
pub(super) struct ImageTexts {
    pub prompt: Encoded,
    /// Where there is guidance.
    pub negative: Option<Encoded>,
}

impl ImageTexts {
    /// Embeddings of the prompt, which are as many as the negative prompt's.
    pub fn tokens(&self) -> Result<usize> {
        Ok(self.prompt.hidden.dim(1)?)
    }
}

/// Encodes the texts of an image, and tells what of them is not read as their writer may expect.
///
/// A prompt and its negative prompt are brought to as many chunks as one another, whatever other images
/// of the run need.
pub(super) fn encode(
    networks: &Networks,
    recipe: &Recipe,
    guided: bool,
) -> Result<(ImageTexts, Vec<String>)> {
    let template = &recipe.template;
    let (syntax, skip) = (template.prompt_syntax, template.extras.clip_skip as usize);
    let read = |text: &str| prompt::read(&networks.texts, text, syntax);
    let prompt = read(&template.prompt)?;
    let negative = guided.then(|| read(&template.negative_prompt)).transpose()?;
    let mut warnings = prompt.warnings("prompt");
    warnings.extend(negative.iter().flat_map(|negative| negative.warnings("negative prompt")));
    let chunks = negative.as_ref().map_or(1, prompt::ReadPrompt::chunks).max(prompt.chunks());
    let encode = |text: &str, read: &prompt::ReadPrompt| {
        let key = TextKey { text: text.to_owned(), syntax, chunks, skip };
        networks.embeddings.of(&key, || prompt::encode(&networks.texts, read, chunks, skip))
    };
    let negative = negative.map(|read| {
        let encoded = encode(&template.negative_prompt, &read)?;
        let zeros = template.negative_prompt.is_empty() && networks.zero_empty_negative;
        if zeros { encoded.zeros_like() } else { Ok(encoded) }
    });
    let texts = ImageTexts { prompt: encode(&template.prompt, &prompt)?, negative: negative.transpose()? };
    Ok((texts, warnings))
}

/// Positions of images that go through the network together, in order: their texts have as many embeddings.
///
/// With `length`, every group has exactly that many, the last position repeated where there are too few.
pub(super) fn groups(tokens: &[usize], length: Option<usize>) -> Vec<Vec<usize>> {
    let mut by_tokens: Vec<(usize, Vec<usize>)> = Vec::new();
    for (image, tokens) in tokens.iter().enumerate() {
        match by_tokens.iter_mut().find(|(known, _)| known == tokens) {
            Some((_, images)) => images.push(image),
            None => by_tokens.push((*tokens, vec![image])),
        }
    }
    by_tokens.into_iter().flat_map(|(_, images)| pieces(&images, length)).collect()
}

/// All together, or in pieces of one length, the last filled up by repetition.
fn pieces(images: &[usize], length: Option<usize>) -> Vec<Vec<usize>> {
    let Some(length) = length else { return vec![images.to_vec()] };
    images
        .chunks(length)
        .map(|piece| {
            let mut piece = piece.to_vec();
            piece.resize(length, piece[piece.len() - 1]);
            piece
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_whose_texts_are_as_long_go_together() {
        assert_eq!(groups(&[77, 77, 77], None), [vec![0, 1, 2]]);
        assert_eq!(groups(&[77, 154, 77], None), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn pieces_of_one_length_are_filled_with_their_last_image() {
        assert_eq!(groups(&[77; 5], Some(4)), [vec![0, 1, 2, 3], vec![4, 4, 4, 4]]);
    }
}
