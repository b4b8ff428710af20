//! Whether the parts of a model fit one another, and what its UNet wants to see.

use crate::Result;
use crate::clip::TextRole;
use crate::config::ConfigFile;
use crate::config::clip::ClipConfig;
use crate::config::unet::UnetConfig;

/// What stands in the channels of a UNet's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnetInput {
    /// The latents alone.
    Latents,
    /// The latents, the mask, and the latents of the picture with the masked part blanked: inpainting.
    MaskedPicture,
    /// The latents, and those of the picture that is to be changed: editing by instruction.
    Picture,
}

/// Holds the UNet against the text encoders, in the order of their roles, and the latents.
///
/// Errors: the first width that does not fit, by its key in the UNet's `file`.
pub(crate) fn check(
    file: &ConfigFile,
    roles: &[TextRole],
    texts: &[ClipConfig],
    unet: &UnetConfig,
    latent_channels: usize,
) -> Result<UnetInput> {
    let trunk = &unet.trunk;
    let width: usize = texts.iter().map(|text| text.width).sum();
    if trunk.text_width != width {
        let reason = format!("is {}, but the text encoders give {width}", trunk.text_width);
        return Err(file.fault("cross_attention_dim", reason));
    }
    let pooled = roles.iter().zip(texts).find(|(role, _)| role.pooled);
    match (trunk.added, pooled) {
        (Some(added), Some((_, text))) if added.pooled_width != text.projection_width => {
            let (left, given) = (added.pooled_width, text.projection_width);
            let reason = format!(
                "leaves {left} numbers for the pooled text, but the second text encoder gives {given}"
            );
            return Err(file.fault("projection_class_embeddings_input_dim", reason));
        }
        (Some(_), None) => {
            let reason = "asks for a pooled text, which a pipeline with one text encoder does not have";
            return Err(file.fault("addition_embed_type", reason.to_owned()));
        }
        _ => {}
    }
    if unet.out_channels != latent_channels {
        let reason = format!("is {}, but the VAE has {latent_channels} latent channels", unet.out_channels);
        return Err(file.fault("out_channels", reason));
    }
    input(trunk.in_channels, latent_channels).ok_or_else(|| {
        file.fault(
            "in_channels",
            format!(
                "is {}: with {latent_channels} latent channels, {latent_channels} are supported, {} for \
                 inpainting and {} for editing by instruction",
                trunk.in_channels,
                2 * latent_channels + 1,
                2 * latent_channels
            ),
        )
    })
}

fn input(channels: usize, latents: usize) -> Option<UnetInput> {
    match channels {
        _ if channels == latents => Some(UnetInput::Latents),
        _ if channels == 2 * latents + 1 => Some(UnetInput::MaskedPicture),
        _ if channels == 2 * latents => Some(UnetInput::Picture),
        _ => None,
    }
}
