//! The names that a UNet's layers had in the first published checkpoints, which kohya keeps for SDXL.
//!
//! The old UNet counts its blocks in one row, `input_blocks_0` upwards, where diffusers' has blocks of
//! layers; how many layers a block has says which is which.

/// Parts of a residual layer, old and new.
const RESNET: [(&str, &str); 6] = [
    ("in_layers_0", "norm1"),
    ("in_layers_2", "conv1"),
    ("emb_layers_1", "time_emb_proj"),
    ("out_layers_0", "norm2"),
    ("out_layers_3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];
/// Layers outside of the blocks, old and new.
const OUTSIDE: [(&str, &str); 7] = [
    ("input_blocks_0_0", "conv_in"),
    ("time_embed_0", "time_embedding_linear_1"),
    ("time_embed_2", "time_embedding_linear_2"),
    ("label_emb_0_0", "add_embedding_linear_1"),
    ("label_emb_0_2", "add_embedding_linear_2"),
    ("out_0", "conv_norm_out"),
    ("out_2", "conv_out"),
];

/// Sizes of a UNet that its old names depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks<'a> {
    /// Residual layers of each block on the way down.
    pub down_layers: &'a [usize],
    /// Whether each block on the way up has transformers.
    pub up_crossed: &'a [bool],
}

/// Whether a layer's name is an old one.
pub(super) fn is_old(layer: &str) -> bool {
    ["input_blocks_", "middle_block_", "output_blocks_"].iter().any(|start| layer.starts_with(start))
        || OUTSIDE.iter().any(|(old, _)| *old == layer)
}

/// The name that diffusers gives to a layer with an old name, where this UNet has such a layer.
pub(super) fn translate(layer: &str, blocks: Blocks<'_>) -> Option<String> {
    if let Some((_, new)) = OUTSIDE.iter().find(|(old, _)| *old == layer) {
        return Some((*new).to_owned());
    }
    if let Some(rest) = layer.strip_prefix("middle_block_") {
        let (index, rest) = number(rest)?;
        return match index {
            0 => in_resnet("mid_block_resnets_0", rest),
            1 => Some(format!("mid_block_attentions_0_{rest}")),
            2 => in_resnet("mid_block_resnets_1", rest),
            _ => None,
        };
    }
    if let Some(rest) = layer.strip_prefix("input_blocks_") {
        let (index, rest) = number(rest)?;
        let (part, rest) = number(rest)?;
        return input(index, part, rest, blocks);
    }
    let (index, rest) = number(layer.strip_prefix("output_blocks_")?)?;
    let (part, rest) = number(rest)?;
    output(index, part, rest, blocks)
}

/// On the way down each block's layers are counted, then its downsampler.
fn input(index: usize, part: usize, rest: &str, blocks: Blocks<'_>) -> Option<String> {
    let mut first = 1;
    for (block, layers) in blocks.down_layers.iter().enumerate() {
        let layer = index.checked_sub(first)?;
        if layer == *layers {
            let downsampler = part == 0 && rest == "op";
            return downsampler.then(|| format!("down_blocks_{block}_downsamplers_0_conv"));
        }
        if layer < *layers {
            return in_layer(&format!("down_blocks_{block}"), layer, part, rest);
        }
        first += layers + 1;
    }
    None
}

/// On the way up each block has a layer more, and the upsampler is part of its last one.
fn output(index: usize, part: usize, rest: &str, blocks: Blocks<'_>) -> Option<String> {
    let mut first = 0;
    for (block, layers) in blocks.down_layers.iter().rev().enumerate() {
        let layer = index.checked_sub(first)?;
        if layer <= *layers {
            let name = format!("up_blocks_{block}");
            let upsampler = 1 + usize::from(*blocks.up_crossed.get(block)?);
            if part == upsampler {
                return (layer == *layers && rest == "conv").then(|| format!("{name}_upsamplers_0_conv"));
            }
            return in_layer(&name, layer, part, rest);
        }
        first += layers + 1;
    }
    None
}

fn in_layer(block: &str, layer: usize, part: usize, rest: &str) -> Option<String> {
    match part {
        0 => in_resnet(&format!("{block}_resnets_{layer}"), rest),
        1 => Some(format!("{block}_attentions_{layer}_{rest}")),
        _ => None,
    }
}

fn in_resnet(resnet: &str, rest: &str) -> Option<String> {
    RESNET.iter().find(|(old, _)| *old == rest).map(|(_, new)| format!("{resnet}_{new}"))
}

/// The number that a name begins with, and the name behind it.
fn number(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('_').unwrap_or((name, ""));
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SDXL's.
    const BLOCKS: Blocks<'_> = Blocks { down_layers: &[2, 2, 2], up_crossed: &[true, true, false] };

    // From the keys of SDXL's published checkpoint and its folder in diffusers.
    #[test]
    fn old_names_of_sdxl_are_those_of_diffusers() {
        for (old, new) in [
            ("input_blocks_0_0", "conv_in"),
            ("input_blocks_1_0_in_layers_2", "down_blocks_0_resnets_0_conv1"),
            ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
            ("input_blocks_4_0_skip_connection", "down_blocks_1_resnets_0_conv_shortcut"),
            ("input_blocks_4_1_proj_in", "down_blocks_1_attentions_0_proj_in"),
            (
                "input_blocks_8_1_transformer_blocks_9_attn2_to_out_0",
                "down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_out_0",
            ),
            ("middle_block_0_emb_layers_1", "mid_block_resnets_0_time_emb_proj"),
            (
                "middle_block_1_transformer_blocks_0_ff_net_0_proj",
                "mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
            ),
            ("middle_block_2_out_layers_3", "mid_block_resnets_1_conv2"),
            ("output_blocks_0_1_proj_out", "up_blocks_0_attentions_0_proj_out"),
            ("output_blocks_2_2_conv", "up_blocks_0_upsamplers_0_conv"),
            ("output_blocks_5_2_conv", "up_blocks_1_upsamplers_0_conv"),
            ("output_blocks_8_0_out_layers_3", "up_blocks_2_resnets_2_conv2"),
            ("label_emb_0_2", "add_embedding_linear_2"),
            ("out_2", "conv_out"),
        ] {
            assert!(is_old(old), "{old}");
            assert_eq!(translate(old, BLOCKS).as_deref(), Some(new), "{old}");
        }
    }

    #[test]
    fn names_of_layers_that_are_not_there_have_no_translation() {
        for old in [
            "input_blocks_10_0_op",
            "input_blocks_99999999999999999999_0_op",
            "input_blocks_3_1_op",
            "output_blocks_9_0_in_layers_2",
            "output_blocks_0_2_conv",
            "middle_block_3_in_layers_2",
            "input_blocks__0",
            "input_blocks_1",
            "output_blocks_",
        ] {
            assert_eq!(translate(old, BLOCKS), None, "{old}");
        }
    }

    #[test]
    fn names_of_diffusers_are_not_old() {
        assert!(!is_old("down_blocks_0_resnets_0_conv1"));
        assert!(!is_old("conv_out"));
    }
}
