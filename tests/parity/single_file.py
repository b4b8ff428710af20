"""Checkpoints in one file, with the names of the programs that trained them.

    venv/bin/python single_file.py

Takes pipelines of diffusers' modules apart into the names of Stable Diffusion 1, 2 and XL as they were
published. Nothing is trusted: diffusers' own converters read every result back and must find each tensor as
it was.

- `models/single-*.safetensors`: small random models with the true number of blocks, and the leftovers of
  training that published files hold. What shapes do not tell stands in the `.toml` beside each.
- `golden/single_file.safetensors`: what transformers and diffusers compute with them.
- `golden/single_file.json`: SHA-256 over the weights under diffusers' names, the true configurations, and
  SHA-256 over which tensor of a published checkpoint becomes which of diffusers.
- `golden/single_file_*.txt`: names and shapes of the published checkpoints' tensors, sorted; each line begins
  with the number of characters it shares with the line before.
"""

import hashlib
import json
import pathlib

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as judge
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import noise

HERE = pathlib.Path(__file__).parent
GOLDEN, MODELS = HERE / "golden", HERE / "models"

UNET_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_key(name, layers, levels_with_attention_up):
    """A name of diffusers' UNet as it is in a checkpoint."""
    layer, kind = name.rsplit(".", 1)
    if layer in UNET_TOP:
        return f"{UNET_TOP[layer]}.{kind}"
    way, *rest = name.split(".")
    if way == "mid_block":
        what, index, *rest = rest
        place = {"resnets": 2 * int(index), "attentions": 1}[what]
        return f"middle_block.{place}." + inside_unet(what, ".".join(rest))
    level, what, index, *rest = rest
    level, index, rest = int(level), int(index), ".".join(rest)
    if way == "down_blocks":
        if what == "downsamplers":
            return f"input_blocks.{(level + 1) * (layers + 1)}.0.op." + rest.removeprefix("conv.")
        block = 1 + level * (layers + 1) + index
        return f"input_blocks.{block}.{int(what == 'attentions')}." + inside_unet(what, rest)
    if what == "upsamplers":
        block = level * (layers + 1) + layers
        return f"output_blocks.{block}.{1 + int(level in levels_with_attention_up)}.{rest}"
    block = level * (layers + 1) + index
    return f"output_blocks.{block}.{int(what == 'attentions')}." + inside_unet(what, rest)


def inside_unet(what, rest):
    layer, kind = rest.rsplit(".", 1)
    return f"{UNET_RESNET[layer]}.{kind}" if what == "resnets" else rest


def vae_key(name, levels):
    if name.startswith(("quant_conv", "post_quant_conv")):
        return name
    half, rest = name.split(".", 1)
    layer, kind = rest.rsplit(".", 1)
    if layer in ("conv_in", "conv_out", "conv_norm_out"):
        return f"{half}.{layer.replace('conv_norm_out', 'norm_out')}.{kind}"
    parts = layer.split(".")
    if parts[0] == "mid_block":
        if parts[1] == "attentions":
            return f"{half}.mid.attn_1.{VAE_ATTENTION['.'.join(parts[3:])]}.{kind}"
        return f"{half}.mid.block_{int(parts[2]) + 1}.{'.'.join(parts[3:])}.{kind}".replace("conv_shortcut", "nin_shortcut")
    level = int(parts[1])
    if half == "encoder":
        block = f"encoder.down.{level}"
    else:
        block = f"decoder.up.{levels - 1 - level}"
    if parts[2] == "resnets":
        return f"{block}.block.{parts[3]}.{parts[4]}.{kind}".replace("conv_shortcut", "nin_shortcut")
    return f"{block}.{parts[2].removesuffix('rs').removesuffix('e')}e.conv.{kind}"


OPEN_CLIP_TOP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def open_clip(state):
    """A text encoder's tensors as OpenCLIP has them."""
    out = {}
    for name, value in state.items():
        if name == "text_projection.weight":
            out["text_projection"] = value.T
            continue
        name = name.removeprefix("text_model.")
        if name in OPEN_CLIP_TOP:
            out[OPEN_CLIP_TOP[name]] = value
            continue
        _, _, index, rest = name.split(".", 3)
        layer, kind = rest.rsplit(".", 1)
        block = f"transformer.resblocks.{index}"
        if layer in OPEN_CLIP_LAYER:
            out[f"{block}.{OPEN_CLIP_LAYER[layer]}.{kind}"] = value
        elif layer == "self_attn.q_proj":
            three = [state[key] for key in (name_of(state, index, letter, kind) for letter in "qkv")]
            out[f"{block}.attn.in_proj_{kind}"] = torch.cat([value.contiguous() for value in three])
    return out


def name_of(state, index, letter, kind):
    name = f"encoder.layers.{index}.self_attn.{letter}_proj.{kind}"
    return name if name in state else f"text_model.{name}"


def clip(state):
    return {name if name.startswith("text_model.") else f"text_model.{name}": value for name, value in state.items()}


def to_checkpoint(kind, parts, configs):
    """All parts' state dicts as one checkpoint's tensors."""
    unet, vae = configs["unet"], configs["vae"]
    crossed = {level for level, block in enumerate(unet["up_block_types"]) if block.startswith("Cross")}
    out = {
        "model.diffusion_model." + unet_key(name, unet["layers_per_block"], crossed): value
        for name, value in parts["unet"].items()
    }
    for name, value in parts["vae"].items():
        if ".attentions." in name and name.endswith("weight") and "group_norm" not in name:
            value = value[:, :, None, None]
        out["first_stage_model." + vae_key(name, len(vae["block_out_channels"]))] = value
    prefix = {"sd1": "cond_stage_model.transformer.", "sd2": "cond_stage_model.model."}
    if kind == "sdxl":
        out |= {"conditioner.embedders.0.transformer." + k: v for k, v in clip(parts["text_encoder"]).items()}
        out |= {"conditioner.embedders.1.model." + k: v for k, v in open_clip(parts["text_encoder_2"]).items()}
    else:
        convert = clip if kind == "sd1" else open_clip
        out |= {prefix[kind] + k: v for k, v in convert(parts["text_encoder"]).items()}
    return out


class Text:
    """As much of a text encoder as diffusers' converter looks at."""

    def __init__(self, width):
        self.config = type("Config", (), {"hidden_size": width})


def read_back(kind, checkpoint, configs):
    """What diffusers' own converters make of the checkpoint."""
    out = {
        "unet": judge.convert_ldm_unet_checkpoint(dict(checkpoint), configs["unet"]),
        "vae": judge.convert_ldm_vae_checkpoint(dict(checkpoint), configs["vae"]),
    }
    if kind == "sd2":
        text = Text(configs["text_encoder"]["hidden_size"])
        out["text_encoder"] = judge.convert_open_clip_checkpoint(text, dict(checkpoint))
    else:
        out["text_encoder"] = judge.convert_ldm_clip_checkpoint(dict(checkpoint))
    if kind == "sdxl":
        out["text_encoder_2"] = judge.convert_open_clip_checkpoint(
            Text(configs["text_encoder_2"]["hidden_size"]), dict(checkpoint), prefix="conditioner.embedders.1.model."
        )
    return out


def wrapped(name):
    return name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}"


def check_read_back(kind, parts, checkpoint, configs):
    for part, found in read_back(kind, checkpoint, configs).items():
        wanted = {wrapped(k) if "text" in part else k: v for k, v in parts[part].items()}
        found = {k: v for k, v in found.items() if not k.endswith("position_ids")}
        assert found.keys() == wanted.keys(), (kind, part, sorted(found.keys() ^ wanted.keys())[:5])
        for name, value in wanted.items():
            assert found[name].shape == value.shape and torch.equal(found[name], value), (kind, part, name)


# The published configurations: what their authors' files say.

def unet_config(channels, cross, heads, depths, attention, **more):
    crossed = lambda block, on: f"CrossAttn{block}" if on else block
    return dict(
        in_channels=4, out_channels=4, block_out_channels=channels, layers_per_block=2, cross_attention_dim=cross,
        attention_head_dim=heads, transformer_layers_per_block=depths,
        down_block_types=[crossed("DownBlock2D", on) for on in attention],
        up_block_types=[crossed("UpBlock2D", on) for on in reversed(attention)], **more,
    )


def vae_config(channels, **more):
    blocks = len(channels)
    return dict(
        block_out_channels=channels, latent_channels=4, layers_per_block=2,
        down_block_types=["DownEncoderBlock2D"] * blocks, up_block_types=["UpDecoderBlock2D"] * blocks, **more,
    )


def text_config(width, layers, heads, inner, act, **more):
    return dict(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner, hidden_act=act,
        vocab_size=49408, max_position_embeddings=77, **more,
    )


VAE = [128, 256, 512, 512]
XL_ADDED = dict(addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)
CLIP_L = text_config(768, 12, 12, 3072, "quick_gelu")
PUBLISHED = {
    "sd1": dict(
        unet=unet_config([320, 640, 1280, 1280], 768, [8] * 4, [1, 1, 1, 1], [1, 1, 1, 0], sample_size=64),
        vae=vae_config(VAE, scaling_factor=0.18215), text_encoder=CLIP_L,
    ),
    "sd2": dict(
        unet=unet_config(
            [320, 640, 1280, 1280], 1024, [5, 10, 20, 20], [1, 1, 1, 1], [1, 1, 1, 0], sample_size=96, use_linear_projection=True
        ),
        vae=vae_config(VAE, scaling_factor=0.18215), text_encoder=text_config(1024, 23, 16, 4096, "gelu"),
    ),
    "sdxl": dict(
        unet=unet_config(
            [320, 640, 1280], 2048, [5, 10, 20], [1, 2, 10], [0, 1, 1], sample_size=128, use_linear_projection=True, **XL_ADDED
        ),
        vae=vae_config(VAE, scaling_factor=0.13025), text_encoder=CLIP_L,
        text_encoder_2=text_config(1280, 32, 20, 5120, "gelu", projection_dim=1280),
    ),
}
# The same with other widths, and what shapes do not tell of them.
XL_SMALL = dict(addition_embed_type="text_time", addition_time_embed_dim=6, projection_class_embeddings_input_dim=16 + 36)
SMALL = {
    "sd1": dict(
        unet=unet_config([4, 8, 8, 8], 12, [2] * 4, [1, 1, 1, 1], [1, 1, 1, 0], norm_num_groups=4),
        vae=vae_config([2, 4, 4, 4], norm_num_groups=2),
        text_encoder=dict(text_config(12, 3, 3, 20, "quick_gelu"), vocab_size=50, max_position_embeddings=9),
    ),
    "sd2": dict(
        unet=unet_config([4, 8, 8], 16, [1, 2, 4], [1, 2, 2], [1, 1, 0], norm_num_groups=4, use_linear_projection=True),
        vae=vae_config([2, 4, 4], norm_num_groups=2),
        text_encoder=dict(text_config(16, 2, 2, 20, "gelu"), vocab_size=50, max_position_embeddings=9),
    ),
    "sdxl": dict(
        unet=unet_config(
            [4, 8, 8], 28, [1, 2, 4], [1, 1, 2], [0, 1, 1], norm_num_groups=4, use_linear_projection=True, **XL_SMALL
        ),
        vae=vae_config([2, 4, 4], norm_num_groups=2, scaling_factor=0.13025),
        text_encoder=dict(text_config(12, 2, 3, 20, "quick_gelu"), vocab_size=50, max_position_embeddings=9),
        text_encoder_2=dict(text_config(16, 3, 4, 24, "gelu", projection_dim=16), vocab_size=50, max_position_embeddings=9),
    ),
}
PROMPTS = [
    "",
    "Doesn't  the ASTRONAUT'S horse\n\tcost 1234 euros?!",
    "wow! and ! and !!! <|endoftext|> after the end",
    "naïve Ünïcödé 猫 🐈 e\u0301",
    "masterpiece, best quality, (photorealistic:1.4), " * 9,
]
# The block of Stable Diffusion 2's text encoder that no picture uses, and what training leaves behind.
UNUSED_BLOCK = 2


def build(configs):
    # transformers takes the last token for the end of a text where its id is 2.
    text = lambda config: CLIPTextConfig(eos_token_id=2, bos_token_id=0, **config)
    modules = {
        "unet": UNet2DConditionModel(**configs["unet"]),
        "vae": AutoencoderKL(**configs["vae"]),
        "text_encoder": CLIPTextModel(text(configs["text_encoder"])),
    }
    if "text_encoder_2" in configs:
        modules["text_encoder_2"] = CLIPTextModelWithProjection(text(configs["text_encoder_2"]))
    return {name: module.eval() for name, module in modules.items()}


def leftovers(kind, checkpoint):
    out = {
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.diffusion_modelout0weight": torch.ones(3),
        "betas": torch.linspace(0.00085, 0.012, 10),
        "alphas_cumprod": torch.ones(10),
        "global_step": torch.tensor(470000),
    }
    if kind == "sd1":
        out["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(9)[None]
    if kind == "sd2":
        prefix = "cond_stage_model.model."
        last = f"transformer.resblocks.{UNUSED_BLOCK}."
        for key, value in list(checkpoint.items()):
            if key.startswith(prefix + "transformer.resblocks.0."):
                out[key.replace("transformer.resblocks.0.", last)] = value + 1
        out[prefix + "text_projection"] = torch.ones(16, 16)
        out[prefix + "logit_scale"] = torch.tensor(4.6)
    if kind == "sdxl":
        out = {"denoiser.sigmas": torch.ones(10), "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6)}
        out["conditioner.embedders.0.transformer.text_model.embeddings.position_ids"] = torch.arange(9)[None]
    return out


def toml(kind, configs):
    heads = lambda part: f"[config.{part}]\nnum_attention_heads = {configs[part]['num_attention_heads']}\n"
    lines = [
        f'name = "single-{kind}"\nlicence = "CC0-1.0"\n\n[config.unet]\nnorm_num_groups = 4\n'
        f"attention_head_dim = {configs['unet']['attention_head_dim']}\n",
        "[config.vae]\nnorm_num_groups = 2\n",
        heads("text_encoder"),
    ]
    if kind == "sd2":
        lines[-1] += f"num_hidden_layers = {configs['text_encoder']['num_hidden_layers']}\n"
    if kind == "sdxl":
        lines.append(heads("text_encoder_2"))
    return "\n".join(lines)


def digest_of_weights(state):
    """SHA-256 over names and the bytes of their values in f32, by name."""
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode() + b"\n" + state[name].float().contiguous().numpy().tobytes())
    return sha.hexdigest()


def small(kind, configs, golden):
    torch.manual_seed({"sd1": 11, "sd2": 12, "sdxl": 13}[kind])
    modules = build(configs)
    generator = torch.Generator().manual_seed(5)
    for module in modules.values():
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        module.half().float()
    parts = {name: {k: v for k, v in m.state_dict().items() if "position_ids" not in k} for name, m in modules.items()}
    checkpoint = to_checkpoint(kind, parts, configs)
    check_read_back(kind, parts, checkpoint, configs)
    checkpoint |= leftovers(kind, checkpoint)
    stored = {
        k: (v if v.dtype == torch.int64 else v.half()).contiguous().clone() for k, v in sorted(checkpoint.items())
    }
    save_file(stored, MODELS / f"single-{kind}.safetensors")
    (MODELS / f"single-{kind}.toml").write_text(toml(kind, configs))
    draw = lambda index, shape: torch.from_numpy(noise.standard_normal(7, index, shape))
    ids = torch.tensor([[49, 3, 7, 1, 20, 48, 48, 48, 48]])
    tensors = {}
    for name in [name for name in modules if name.startswith("text")]:
        result = modules[name](ids, output_hidden_states=True)
        tensors[f"{name}/last"] = result.last_hidden_state
        tensors[f"{name}/penultimate"] = result.hidden_states[-2]
        if name == "text_encoder_2":
            tensors[f"{name}/pooled"] = result.text_embeds
    unet = modules["unet"]
    sample = draw(0, (1, 4, 9, 7))
    text = draw(1, (1, 9, configs["unet"]["cross_attention_dim"]))
    added = None
    if kind == "sdxl":
        added = dict(text_embeds=draw(2, (1, 16)), time_ids=torch.tensor([[64.0, 48.0, 0.0, 8.0, 56.0, 72.0]]))
    tensors["unet"] = unet(sample, 481, encoder_hidden_states=text, added_cond_kwargs=added).sample
    tensors["decoded"] = modules["vae"].decode(sample).sample
    tensors["encoded"] = modules["vae"].encode(tensors["decoded"].clamp(-1, 1)).latent_dist.parameters
    golden.update({f"{kind}/{name}": value.contiguous() for name, value in tensors.items()})
    return {
        part: digest_of_weights({wrapped(k) if "text" in part else k: v for k, v in state.items()})
        for part, state in parts.items()
    }


def published(kind, configs):
    """Names and shapes of the published checkpoint, and what diffusers makes of them."""
    with torch.device("meta"):
        shapes = {
            part: {k: v.shape for k, v in module.state_dict().items() if "position_ids" not in k}
            for part, module in build(configs).items()
        }
    # One number a tensor, which needs no memory; diffusers' converters move it to where the tensor belongs.
    numbers, parts = [], {}
    for part, names in shapes.items():
        parts[part] = {}
        for name, shape in names.items():
            parts[part][name] = torch.tensor(len(numbers), dtype=torch.int16).expand(shape)
            numbers.append(name)
    checkpoint = to_checkpoint(kind, parts, configs)
    check_read_back(kind, parts, checkpoint, configs)
    origin = {}
    for key, value in checkpoint.items():
        if ".in_proj_" in key:
            for index, piece in enumerate(value.chunk(3)):
                origin[int(piece.flatten()[0])] = f"{key}/{index}"
        else:
            origin[int(value.flatten()[0])] = key
    lines = [
        f"{part} {wrapped(name) if 'text' in part else name} {'x'.join(map(str, value.shape))} {origin[int(value.flatten()[0])]}\n"
        for part, state in parts.items() for name, value in state.items()
    ]
    before, coded = "", []
    for line in sorted(f"{key} {'x'.join(map(str, value.shape))}" for key, value in checkpoint.items()):
        shared = next((i for i, (a, b) in enumerate(zip(before, line)) if a != b), min(len(before), len(line)))
        coded.append(f"{shared} {line[shared:]}\n")
        before = line
    (GOLDEN / f"single_file_{kind}.txt").write_text("".join(coded))
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def tokens():
    """Token ids of transformers' CLIPTokenizer with the vocabulary that is built into the engine."""
    merges = (HERE / "../../crates/engine/data/clip_merges.txt").read_text(encoding="utf-8").splitlines()
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [*map(chr, own), *(chr(256 + i) for i in range(256 - len(own)))]
    words = [*alphabet, *(c + "</w>" for c in alphabet), *(m.replace(" ", "") for m in merges)]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    out = []
    for padding in ("<|endoftext|>", "!"):
        tokenizer = CLIPTokenizer(
            vocab=vocabulary, merges=[tuple(m.split(" ")) for m in merges], pad_token=padding, model_max_length=77
        )
        read = lambda prompt: tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        # As published: the ids of CLIP for these words.
        assert read("a photo of a cat")[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
        out += [dict(padding=padding, prompt=prompt, ids=read(prompt)) for prompt in PROMPTS]
    return out


def main():
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    golden, facts = {}, {}
    for kind in PUBLISHED:
        facts[kind] = dict(
            weights=small(kind, SMALL[kind], golden), names=published(kind, PUBLISHED[kind]), configs=PUBLISHED[kind]
        )
        print("single-" + kind)
    facts["tokens"] = tokens()
    save_file(golden, GOLDEN / "single_file.safetensors")
    (GOLDEN / "single_file.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
