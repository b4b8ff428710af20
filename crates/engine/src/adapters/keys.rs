//! The names of a LoRA's tensors: which layer of which network each belongs to, and its part in the product.
//!
//! Three ways of naming are read: kohya's (`lora_unet_..._to_q.lora_down.weight`, with the layers called as
//! in diffusers or, for SDXL, as in the first published checkpoints), PEFT's
//! (`unet....to_q.lora_A.weight`) and those of diffusers before it (`unet....to_q.lora.down.weight`,
//! `unet....processor.to_q_lora.down.weight`). A layer's name is kept with `_` for every `.`, since kohya's
//! way does not tell them apart.

/// The network that a layer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Network {
    Unet,
    /// The text encoders, from 0.
    Text(usize),
}

impl Network {
    /// The name of its folder in a model.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Text(0) => "text_encoder",
            Self::Text(_) => "text_encoder_2",
        }
    }
}

/// A layer that a LoRA changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub network: Network,
    /// Its name in diffusers with `_` for `.`, without `text_model` in front; SDXL's may still be the old ones.
    pub layer: String,
}

/// What a tensor is in a layer's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// `[rank, inputs, ...]`: from the layer's inputs to the rank.
    Down,
    /// `[outputs, rank, ...]`: from the rank to the layer's outputs.
    Up,
    /// `[rank, rank, height, width]`: a kernel between the two.
    Mid,
    /// One number, the factor times the rank.
    Alpha,
}

/// A tensor's name, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub target: Target,
    pub role: Role,
    /// The layer's name with its dots, where the file has them.
    pub dotted: Option<String>,
}

/// Endings of names and what they say, in kohya's, PEFT's and diffusers' ways.
const ROLES: [(&str, Role); 12] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_mid.weight", Role::Mid),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".alpha", Role::Alpha),
];
/// The same where the ending is part of the layer's own name: `to_q_lora.down.weight`.
const JOINED_ROLES: [(&str, Role); 2] = [("_lora.down.weight", Role::Down), ("_lora.up.weight", Role::Up)];
/// What kohya's names begin with.
const KOHYA: [(&str, Network); 4] = [
    ("lora_unet_", Network::Unet),
    ("lora_te_", Network::Text(0)),
    ("lora_te1_", Network::Text(0)),
    ("lora_te2_", Network::Text(1)),
];
/// What diffusers' and PEFT's names begin with.
const DOTTED: [(&str, Network); 3] =
    [("unet.", Network::Unet), ("text_encoder.", Network::Text(0)), ("text_encoder_2.", Network::Text(1))];
/// What the names of a UNet's layers begin with, in files that hold nothing else and do not say so.
const BARE_UNET: [&str; 6] =
    ["down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.", "time_embedding."];
/// Marks of methods that change weights in another way than a LoRA.
const OTHER_METHODS: [(&str, &str); 15] = [
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".oft_", "OFT"),
    (".on_input", "IA3"),
    (".diff", "a full difference"),
    (".diff_b", "a full difference"),
    (".w_norm", "a change of norms"),
    (".b_norm", "a change of norms"),
    (".a1.weight", "GLoRA"),
    (".a2.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
    (".b2.weight", "GLoRA"),
    (".lora_B.bias", "a LoRA with biases"),
];

/// The method of a mark that ends the name, or that begins its last part where it ends in `_`.
fn other_method(key: &str) -> Option<&'static str> {
    let marked = |mark: &str| if mark.ends_with('_') { key.contains(mark) } else { key.ends_with(mark) };
    OTHER_METHODS.iter().find(|(mark, _)| marked(mark)).map(|(_, method)| *method)
}

/// Understands a tensor's name.
///
/// Errors: in words, why it is none of a LoRA's that can be merged.
pub(super) fn parse(key: &str) -> Result<Key, String> {
    if let Some(method) = other_method(key) {
        return Err(format!(
            "belongs to {method}: only LoRA is supported, with its down, up, mid and alpha tensors"
        ));
    }
    let kohya = KOHYA.iter().find_map(|(start, network)| Some((key.strip_prefix(start)?, *network)));
    let dotted = DOTTED.iter().find_map(|(start, network)| Some((key.strip_prefix(start)?, *network)));
    let bare = BARE_UNET.iter().any(|start| key.starts_with(start)).then_some((key, Network::Unet));
    let found = match (kohya, dotted.or(bare)) {
        (Some((rest, network)), _) => split_role(rest).map(|(path, role)| (path, role, network, false)),
        (None, Some((rest, network))) => {
            split_role(rest).map(|(path, role)| (rest_of(path, rest, network), role, network, true))
        }
        (None, None) => None,
    };
    let (path, role, network, has_dots) =
        found.ok_or("is not a name that a LoRA's tensors have, in kohya's, PEFT's or diffusers' way")?;
    if path.is_empty() || (!has_dots && path.contains('.')) {
        return Err("names no layer".to_owned());
    }
    let path = path.strip_prefix("text_model.").map(str::to_owned).unwrap_or(path);
    let layer = path.replace('.', "_");
    let layer = layer.strip_prefix("text_model_").map(str::to_owned).unwrap_or(layer);
    Ok(Key { target: Target { network, layer }, role, dotted: has_dots.then_some(path) })
}

/// Whether a tensor's name is one of a LoRA's, or of a method like it.
pub(super) fn is_loras(key: &str) -> bool {
    parse(key).is_ok() || other_method(key).is_some() || KOHYA.iter().any(|(start, _)| key.starts_with(start))
}

/// A name without its ending, and what the ending says. The ending `_lora.down.weight` leaves its layer.
fn split_role(name: &str) -> Option<(String, Role)> {
    let split = |(end, role): &(&str, Role)| Some((name.strip_suffix(end)?.to_owned(), *role));
    ROLES.iter().find_map(split).or_else(|| JOINED_ROLES.iter().find_map(split))
}

/// The layer's own name, of one that diffusers wrote: without the attention's `processor`, and as the layer
/// is called where the ending was joined to it.
fn rest_of(path: String, name: &str, network: Network) -> String {
    let path = path.replace(".processor.", ".");
    if !JOINED_ROLES.iter().any(|(end, _)| name.ends_with(end)) {
        return path;
    }
    let Some((layer, last)) = path.rsplit_once('.') else { return path };
    let last = match (network, last) {
        (Network::Unet, "to_out") => "to_out.0",
        (Network::Text(_), "to_q") => "q_proj",
        (Network::Text(_), "to_k") => "k_proj",
        (Network::Text(_), "to_v") => "v_proj",
        (Network::Text(_), "to_out") => "out_proj",
        (_, other) => other,
    };
    format!("{layer}.{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str) -> (Network, String, Role) {
        let Key { target, role, .. } = parse(key).unwrap();
        (target.network, target.layer, role)
    }

    #[test]
    fn every_way_of_naming_gives_the_same_layer() {
        let to_q = "down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q";
        for key in [
            "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.lora_A.weight",
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.lora.down.weight",
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
            "down_blocks.0.attentions.1.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
        ] {
            assert_eq!(read(key), (Network::Unet, to_q.to_owned(), Role::Down), "{key}");
        }
        let out = "mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0";
        for key in [
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0.lora_up.weight",
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_B.weight",
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight",
        ] {
            assert_eq!(read(key), (Network::Unet, out.to_owned(), Role::Up), "{key}");
        }
        for (key, encoder) in [
            ("lora_te_text_model_encoder_layers_3_self_attn_k_proj.alpha", 0),
            ("lora_te1_text_model_encoder_layers_3_self_attn_k_proj.alpha", 0),
            ("lora_te2_text_model_encoder_layers_3_self_attn_k_proj.alpha", 1),
            ("text_encoder_2.text_model.encoder.layers.3.self_attn.k_proj.alpha", 1),
        ] {
            let layer = "encoder_layers_3_self_attn_k_proj".to_owned();
            assert_eq!(read(key), (Network::Text(encoder), layer, Role::Alpha), "{key}");
        }
        let old = "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.up.weight";
        assert_eq!(read(old).1, "encoder_layers_0_self_attn_out_proj");
        let fc = "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.down.weight";
        assert_eq!(read(fc).1, "encoder_layers_0_mlp_fc1");
    }

    #[test]
    fn other_methods_are_refused_by_name() {
        for (key, method) in [
            ("lora_unet_mid_block_resnets_0_conv1.hada_w1_a", "LoHa"),
            ("lora_unet_mid_block_resnets_0_conv1.lokr_w1", "LoKr"),
            ("lora_te_text_model_encoder_layers_0_mlp_fc1.dora_scale", "DoRA"),
            ("unet.conv_in.lora_magnitude_vector", "DoRA"),
            ("lora_unet_conv_in.diff", "full difference"),
        ] {
            assert!(parse(key).unwrap_err().contains(method), "{key}");
        }
    }

    #[test]
    fn names_of_other_things_are_refused() {
        for key in [
            "",
            "alpha",
            "unet.alpha",
            "lora_unet_.alpha",
            "model.diffusion_model.out.2.weight",
            "lora_unet_a.b.alpha",
        ] {
            assert!(parse(key).is_err(), "{key}");
        }
    }
}
