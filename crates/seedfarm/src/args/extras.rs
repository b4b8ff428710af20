//! What most images do without: prompt syntax, pictures, adapters and finer settings.

use clap::Args;
use seedfarm_core::plan::Settings;
use seedfarm_core::recipe::Variation;
use seedfarm_core::settings::{ControlRequest, LoraRequest, PictureRef, SourceRequest};
use seedfarm_core::{Invalid, PromptSyntax};

use super::settings::seed;

/// Settings that are left out of a recipe where they are not used.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Pictures, adapters and finer settings")]
pub struct ExtraArgs {
    /// plain, or weighted: (word:1.2), BREAK and long prompts as A1111-style tools read them
    #[arg(long, value_name = "SYNTAX", value_parser = PromptSyntax::from_name)]
    pub prompt_syntax: Option<PromptSyntax>,

    /// A LoRA by name or digest, and how strongly it acts on the UNet and on the text encoders; may be
    /// repeated, such as --lora felt:0.8
    #[arg(long = "lora", value_name = "NAME[:WEIGHT[:TEXT_WEIGHT]]", value_parser = lora)]
    pub loras: Vec<LoraRequest>,

    /// A textual inversion by name or digest, which is the word for it in prompts; may be repeated
    #[arg(long = "embedding", value_name = "NAME")]
    pub embeddings: Vec<String>,

    /// A picture to start from, by path or digest; without a size asked for, the image has its size
    #[arg(long, value_name = "FILE|DIGEST", value_parser = picture)]
    pub source: Option<PictureRef>,

    /// How much of the source is drawn anew, over 0 to 1; without it 0.8, with a mask 1
    #[arg(long, value_name = "SHARE", requires = "source", allow_negative_numbers = true)]
    pub strength: Option<f64>,

    /// A picture by path or digest: where it is white the source is drawn anew, where black it is kept
    #[arg(long, value_name = "FILE|DIGEST", requires = "source", value_parser = picture)]
    pub mask: Option<PictureRef>,

    /// A ControlNet and the picture it follows, with its scale and the shares of the steps between which
    /// it acts; may be repeated, such as --control canny:0.8:0:0.5=edges.png
    #[arg(long = "control", value_name = "NAME[:SCALE[:START[:END]]]=FILE|DIGEST", value_parser = control)]
    pub controls: Vec<ControlRequest>,

    /// Refuse pictures of another size than the image instead of bringing them to size
    #[arg(long)]
    pub no_resize: bool,

    /// A second seed that the noise leans towards
    #[arg(long, value_name = "N", requires = "variation_strength", value_parser = seed)]
    pub variation_seed: Option<u64>,

    /// How far it leans there, 0 to 1
    #[arg(long, value_name = "SHARE", requires = "variation_seed", allow_negative_numbers = true)]
    pub variation_strength: Option<f64>,

    /// Layers left out at the end of the text encoder, as diffusers counts them (A1111 counts one more)
    #[arg(long, value_name = "N")]
    pub clip_skip: Option<u32>,

    /// Guidance rescale, 0 to 1; 0 is off
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub guidance_rescale: Option<f64>,

    /// Share of fresh noise in each step, 0 to 1, for samplers that take some
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub eta: Option<f64>,

    /// Decode in tiles of this side in pixels, for large images on little memory; moves pixels slightly
    #[arg(long, value_name = "PIXELS")]
    pub decode_tile: Option<u32>,
}

impl ExtraArgs {
    /// `settings` with these.
    pub fn onto(&self, settings: Settings) -> Settings {
        let source = self.source.clone().map(|image| SourceRequest {
            image,
            strength: self.strength,
            mask: self.mask.clone(),
        });
        let variation = self.variation_seed.zip(self.variation_strength);
        Settings {
            prompt_syntax: self.prompt_syntax,
            loras: given(&self.loras),
            embeddings: given(&self.embeddings),
            source,
            controls: given(&self.controls),
            variation: variation.map(|(seed, strength)| Variation { seed, strength }),
            clip_skip: self.clip_skip,
            guidance_rescale: self.guidance_rescale,
            eta: self.eta,
            decode_tile: self.decode_tile,
            ..settings
        }
    }
}

fn given<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn picture(text: &str) -> Result<PictureRef, std::convert::Infallible> {
    Ok(PictureRef::from(text.to_owned()))
}

fn lora(text: &str) -> Result<LoraRequest, Invalid> {
    let (name, numbers) = numbered(text, 2);
    let weight = numbers.first().copied().unwrap_or(1.0);
    named("lora", name, text)?;
    Ok(LoraRequest { name: name.to_owned(), weight, text_weight: numbers.get(1).copied() })
}

/// The first `=` ends the name and its numbers, so that the path may hold anything.
fn control(text: &str) -> Result<ControlRequest, Invalid> {
    let split = text.split_once('=').filter(|(_, image)| !image.is_empty());
    let (what, image) = split.ok_or_else(|| {
        let way_out = "give a ControlNet and its picture, such as canny=edges.png or canny:0.8=edges.png";
        Invalid::WrongUse(format!("'{text}' names no picture: {way_out}"))
    })?;
    let (name, numbers) = numbered(what, 3);
    named("control", name, text)?;
    let number = |at: usize, default: f64| numbers.get(at).copied().unwrap_or(default);
    Ok(ControlRequest {
        name: name.to_owned(),
        image: PictureRef::from(image.to_owned()),
        scale: number(0, 1.0),
        start: number(1, 0.0),
        end: number(2, 1.0),
    })
}

fn named(option: &str, name: &str, text: &str) -> Result<(), Invalid> {
    if name.is_empty() {
        return Err(Invalid::WrongUse(format!("--{option} '{text}' lacks a name before its numbers")));
    }
    Ok(())
}

/// A name, and at most `most` numbers behind it, each after a colon. What is no number belongs to the name.
fn numbered(text: &str, most: usize) -> (&str, Vec<f64>) {
    let (mut name, mut numbers) = (text, Vec::new());
    while numbers.len() < most {
        let Some((before, last)) = name.rsplit_once(':') else { break };
        let Ok(number) = last.parse::<f64>() else { break };
        numbers.insert(0, number);
        name = before;
    }
    (name, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lora_has_its_weights_behind_colons() {
        let read = |text: &str| {
            let lora = lora(text).unwrap();
            (lora.name, lora.weight, lora.text_weight)
        };
        assert_eq!(read("felt"), ("felt".into(), 1.0, None));
        assert_eq!(read("felt:0.8"), ("felt".into(), 0.8, None));
        assert_eq!(read("felt:-1:0"), ("felt".into(), -1.0, Some(0.0)));
        assert_eq!(read("a:b:0.5"), ("a:b".into(), 0.5, None));
        assert!(lora(":0.5").unwrap_err().to_string().contains("lacks a name"));
    }

    #[test]
    fn a_controls_picture_may_be_any_path() {
        let read = |text: &str| {
            let control = control(text).unwrap();
            (control.name, control.image.to_string(), control.scale, control.start, control.end)
        };
        assert_eq!(read("canny=a.png"), ("canny".into(), "a.png".into(), 1.0, 0.0, 1.0));
        let path = "C:\\a=b:0.5.png";
        assert_eq!(read(&format!("canny:0.8:0:0.5={path}")), ("canny".into(), path.into(), 0.8, 0.0, 0.5));
        assert!(control("canny").unwrap_err().to_string().contains("canny=edges.png"));
        assert!(control("canny=").is_err() && control("=a.png").is_err());
    }
}
