//! A ControlNet's `config.json`: the shape of a `ControlNetModel`.

use serde_json::{Value, json};

use super::ConfigFile;
use super::unet::{MidConfig, TrunkConfig, UnetConfig};
use crate::Result;

/// Channels of a hint's layers where the file does not say.
const HINT_CHANNELS: [usize; 4] = [16, 32, 96, 256];
const HINT_KEY: &str = "conditioning_embedding_out_channels";

/// The shape of a ControlNet.
#[derive(Debug, Clone)]
pub(crate) struct ControlNetConfig {
    pub trunk: TrunkConfig,
    /// Of the layers that the hint goes through, from the picture's size to that of the latents.
    pub hint_channels: Vec<usize>,
    /// Whether the hint is wanted with blue before green before red.
    pub blue_first: bool,
}

impl ControlNetConfig {
    /// Reads and bounds the file. Defaults are those of diffusers' `ControlNetModel`.
    pub fn read(file: &ConfigFile) -> Result<Self> {
        file.only("_class_name", &[json!("ControlNetModel")])?;
        file.only("conditioning_channels", &[json!(3)])?;
        file.only("global_pool_conditions", &[Value::Bool(false)])?;
        file.only("time_cond_proj_dim", &[])?;
        let trunk = TrunkConfig::read(file)?;
        if trunk.mid == MidConfig::Absent {
            return Err(file.fault("mid_block_type", "is null: a ControlNet has a middle"));
        }
        let has_channels = file.get(HINT_KEY).is_some();
        let hint_channels =
            if has_channels { file.block_channels(HINT_KEY)? } else { HINT_CHANNELS.to_vec() };
        let blue_first = match file.text("controlnet_conditioning_channel_order", "rgb")? {
            "rgb" => false,
            "bgr" => true,
            other => {
                let reason = format!("is '{other}': rgb and bgr are supported");
                return Err(file.fault("controlnet_conditioning_channel_order", reason));
            }
        };
        Ok(Self { trunk, hint_channels, blue_first })
    }

    /// Pixels a side of the hint for one latent element.
    pub fn pixels_per_latent(&self) -> usize {
        1 << (self.hint_channels.len() - 1)
    }

    /// Holds the ControlNet of `file` against the UNet whose outputs it adds to.
    ///
    /// Errors: the first size that differs, by its key.
    pub fn check_fit(&self, file: &ConfigFile, unet: &UnetConfig, pixels_per_latent: usize) -> Result<()> {
        let (own, base) = (&self.trunk, &unet.trunk);
        let fault = |key: &str, own: String, base: String| {
            Err(file.fault(key, format!("is {own}, but the model that it is used with has {base}")))
        };
        let channels =
            |trunk: &TrunkConfig| trunk.down.iter().map(|block| block.channels).collect::<Vec<_>>();
        let layers = |trunk: &TrunkConfig| trunk.down.iter().map(|block| block.layers).collect::<Vec<_>>();
        let pooled = |trunk: &TrunkConfig| trunk.added.map(|added| added.pooled_width);
        for (key, own, base) in [
            ("block_out_channels", channels(own), channels(base)),
            ("layers_per_block", layers(own), layers(base)),
        ] {
            if own != base {
                return fault(key, format!("{own:?}"), format!("{base:?}"));
            }
        }
        for (key, own, base) in [
            ("in_channels", own.in_channels, unet.out_channels),
            ("cross_attention_dim", own.text_width, base.text_width),
        ] {
            if own != base {
                return fault(key, own.to_string(), base.to_string());
            }
        }
        if self.pixels_per_latent() != pixels_per_latent {
            let reason = format!(
                "has {} entries, which bring {} pixels to one latent, but the model has {pixels_per_latent}",
                self.hint_channels.len(),
                self.pixels_per_latent()
            );
            return Err(file.fault(HINT_KEY, reason));
        }
        if pooled(own) != pooled(base) && own.added.is_some() {
            let width = |pooled: Option<usize>| pooled.map_or("none".to_owned(), |width| width.to_string());
            let (own, base) = (width(pooled(own)), width(pooled(base)));
            let reason = format!("leaves {own} numbers for the pooled text, but the model has {base}");
            return Err(file.fault("projection_class_embeddings_input_dim", reason));
        }
        Ok(())
    }
}
