"""LoRAs of the small pipelines in every way of naming, and what diffusers with PEFT makes of them.

Writes `adapters/*.safetensors`, the LoRAs; `golden/lora.json`, the cases; `golden/lora.safetensors`, for each
case the text embeddings and one prediction of the UNet. `generate.py` calls `main`.
"""

import json
import pathlib

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

import noise

HERE = pathlib.Path(__file__).parent
GOLDEN, MODELS, ADAPTERS = HERE / "golden", HERE / "models", HERE / "adapters"
PROMPT = "an astronaut on the moon"
TIMESTEP = 500
LATENTS = {"tiny-sd1": (1, 4, 9, 7), "tiny-sd2": (1, 4, 5, 8), "tiny-sdxl": (1, 4, 6, 8)}
TIME_IDS = [56.0, 72.0, 8.0, 4.0, 64.0, 48.0]


def attention(name):
    return "attn1.to_" in name or "attn2.to_" in name or "self_attn." in name


def linear(name):
    return "transformer_blocks" in name or ".mlp." in name or "self_attn." in name


def convolution(name):
    return ".conv" in name or name in ("conv_in", "conv_out") or "proj_" in name or "time_emb" in name


def everything(name):
    return "embeddings" not in name


# name: model, way of naming, rank, alpha (None for no such tensor), which layers, of which networks
LORAS = {
    "kohya-attention": ("tiny-sd1", "kohya", 4, 2.0, linear, ("unet", "text_encoder")),
    "kohya-convolutions": ("tiny-sd1", "kohya", 3, 1.0, convolution, ("unet",)),
    "kohya-no-alpha": ("tiny-sd1", "kohya", 1, None, attention, ("unet",)),
    "peft": ("tiny-sd1", "peft", 2, None, linear, ("unet", "text_encoder")),
    "peft-convolutions": ("tiny-sd2", "peft", 2, None, convolution, ("unet",)),
    "peft-metadata": ("tiny-sd1", "peft", 2, 5.0, attention, ("unet", "text_encoder")),
    "diffusers": ("tiny-sd2", "diffusers", 2, None, linear, ("unet", "text_encoder")),
    "diffusers-old": ("tiny-sd1", "diffusers-old", 2, None, attention, ("unet", "text_encoder")),
    "kohya-mid": ("tiny-sd1", "kohya-mid", 2, 1.0, lambda name: ".conv1" in name, ("unet",)),
    "kohya-sdxl": ("tiny-sdxl", "kohya-sdxl", 2, 1.5, everything, ("unet", "text_encoder", "text_encoder_2")),
    "peft-sdxl": ("tiny-sdxl", "peft", 2, None, linear, ("unet", "text_encoder", "text_encoder_2")),
}
# name: the LoRAs with their factors for the UNet and for the text encoders
CASES = {
    "kohya-attention": [("kohya-attention", 1.0, 1.0)],
    "kohya-convolutions": [("kohya-convolutions", 0.8, 1.0)],
    "kohya-no-alpha": [("kohya-no-alpha", 1.0, 1.0)],
    "negative": [("kohya-attention", -0.6, -1.2)],
    "unet-alone": [("kohya-attention", 0.7, 0.0)],
    "text-alone": [("peft", 0.0, 0.9)],
    "peft": [("peft", 1.0, 1.0)],
    "peft-convolutions": [("peft-convolutions", 1.3, 1.0)],
    "peft-metadata": [("peft-metadata", 0.5, 0.4)],
    "diffusers": [("diffusers", 1.0, 0.5)],
    "diffusers-old": [("diffusers-old", 1.0, 1.0)],
    "two": [("kohya-attention", 0.7, 0.3), ("peft", -0.5, 0.8)],
    "three": [("kohya-convolutions", 0.4, 0.0), ("peft", 0.5, 1.0), ("kohya-attention", 0.6, -0.7)],
    "kohya-mid": [("kohya-mid", 0.9, 1.0)],
    "kohya-sdxl": [("kohya-sdxl", 0.6, 0.6)],
    "two-sdxl": [("kohya-sdxl", 0.5, -0.5), ("peft-sdxl", 0.7, 0.9)],
}


def layers(pipe, network, wanted):
    """The layers of a network that a LoRA can change, by name."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    for name, module in getattr(pipe, network).named_modules():
        if isinstance(module, kinds) and wanted(name):
            yield name, module.weight


def factors(weight, rank, generator):
    """Random down and up for a layer's weight, of a size that the change is about as large as the weight."""
    outputs, inputs, *kernel = weight.shape
    down = torch.randn((rank, inputs, *kernel), generator=generator)
    up = torch.randn((outputs, rank, *([1] * len(kernel))), generator=generator)
    size = (0.3 * weight.std() / (rank**0.5)) ** 0.5
    return down * size, up * size


def old_unet_name(name, layers):
    """What a layer is called in kohya's SDXL LoRAs, in a UNet of `layers` residual layers a block on the way down."""
    outside = {
        "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }
    if name in outside:
        return outside[name]
    parts = name.split(".")
    resnet = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
    if parts[0] == "mid_block":
        place = "middle_block." + {("resnets", "0"): "0", ("attentions", "0"): "1", ("resnets", "1"): "2"}[parts[1], parts[2]]
        kind, rest = parts[1], parts[3:]
    else:
        block, kind, layer, rest = int(parts[1]), parts[2], int(parts[3]), parts[4:]
        first = block * (layers + 1)
        if kind == "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.op"
        if kind == "upsamplers":
            return f"output_blocks.{first + layers}.2.conv"
        place = f"input_blocks.{first + layer + 1}" if parts[0] == "down_blocks" else f"output_blocks.{first + layer}"
        place += ".0" if kind == "resnets" else ".1"
    rest = resnet[rest[0]] if kind == "resnets" else ".".join(rest)
    return f"{place}.{rest}"


def write_lora(name, pipe, style, rank, alpha, wanted, networks):
    generator = torch.Generator().manual_seed(sum(name.encode()))
    tensors, metadata = {}, {}
    for network in networks:
        text = network != "unet"
        for layer, weight in layers(pipe, network, wanted):
            down, up = factors(weight, rank, generator)
            layer = layer.removeprefix("text_model.")
            own = "text_model." + layer if layer.startswith("encoder.") else layer
            dotted = f"{network}.{own}"
            if style.startswith("kohya"):
                sdxl = style == "kohya-sdxl"
                prefix = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if sdxl else "lora_te_", "text_encoder_2": "lora_te2_"}[network]
                if sdxl and not text:
                    own = old_unet_name(layer, pipe.unet.config.layers_per_block)
                key = prefix + own.replace(".", "_")
                if style == "kohya-mid":
                    tensors[f"{key}.lora_mid.weight"] = torch.randn((rank, rank, 3, 3), generator=generator)
                    down = down[:, :, :1, :1].clone()
                tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = down, up
                if alpha is not None:
                    tensors[f"{key}.alpha"] = torch.tensor(alpha)
            elif style == "peft":
                tensors[f"{dotted}.lora_A.weight"], tensors[f"{dotted}.lora_B.weight"] = down, up
            elif style == "diffusers" or not attention(layer):
                middle = "lora_linear_layer" if text else "lora"
                tensors[f"{dotted}.{middle}.down.weight"], tensors[f"{dotted}.{middle}.up.weight"] = down, up
            else:
                parent, own = dotted.removesuffix(".0").rsplit(".", 1)
                own = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}.get(own, own)
                key = f"{parent}.{own}_lora" if text else f"{parent}.processor.{own}_lora"
                tensors[f"{key}.down.weight"], tensors[f"{key}.up.weight"] = down, up
        if style == "peft" and alpha is not None:
            targets = sorted({layer for layer, _ in layers(pipe, network, wanted)})
            metadata.update({
                f"{network}.r": rank, f"{network}.lora_alpha": alpha, f"{network}.target_modules": targets,
                f"{network}.alpha_pattern": {targets[0]: 3.0, "^" + targets[1]: 1.0}, f"{network}.use_rslora": network == "unet",
            })
    # One entry alone: safetensors writes several in no fixed order.
    extra = {"lora_adapter_metadata": json.dumps(metadata, sort_keys=True)} if metadata else {}
    dtype = torch.bfloat16 if style == "kohya-sdxl" else torch.float16
    tensors = {key: value.to(dtype).contiguous() for key, value in tensors.items()}
    save_file(tensors, ADAPTERS / f"{name}.safetensors", metadata=extra or {"format": "pt"})


def load(model):
    kind = StableDiffusionXLPipeline if model == "tiny-sdxl" else StableDiffusionPipeline
    pipe = kind.from_pretrained(MODELS / model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def merge_by_hand(pipe, name, weight):
    """LyCORIS' kernel between down and up, which diffusers does not read: its product, written as one sum."""
    tensors = {key: value.float() for key, value in load_file(ADAPTERS / f"{name}.safetensors").items()}
    for layer, target in layers(pipe, "unet", LORAS[name][4]):
        key = "lora_unet_" + layer.replace(".", "_")
        up, mid, down = (tensors[f"{key}.lora_{part}.weight"] for part in ("up", "mid", "down"))
        change = torch.einsum("op,pqhw,qi->oihw", up[:, :, 0, 0], mid, down[:, :, 0, 0])
        target.data += weight * tensors[f"{key}.alpha"] / up.shape[1] * change


def apply(pipe, loras):
    if loras[0][0] == "kohya-mid":
        return merge_by_hand(pipe, *loras[0][:2])
    names, weights = [], []
    for name, unet, text in loras:
        pipe.load_lora_weights(ADAPTERS, weight_name=f"{name}.safetensors", adapter_name=name)
        names.append(name)
        networks = LORAS[name][5]
        weights.append({network: unet if network == "unet" else text for network in networks})
    pipe.set_adapters(names, adapter_weights=weights)


def encode(pipe):
    """The text as the pipeline shows it to the UNet, and the pooled one where it has one."""
    if isinstance(pipe, StableDiffusionXLPipeline):
        embeds, _, pooled, _ = pipe.encode_prompt(PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        return embeds, pooled
    embeds, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
    return embeds, None


def run(model, loras):
    pipe = load(model)
    plain = encode(pipe)[0]
    apply(pipe, loras)
    text, pooled = encode(pipe)
    latents = torch.from_numpy(noise.standard_normal(11, 0, LATENTS[model]))
    added = {} if pooled is None else dict(text_embeds=pooled, time_ids=torch.tensor([TIME_IDS]))
    prediction = pipe.unet(latents, TIMESTEP, text, added_cond_kwargs=added).sample
    if any(text_weight for _, _, text_weight in loras) and "text_encoder" in LORAS[loras[0][0]][5]:
        assert (text - plain).abs().max() > 0.01, f"{loras} do not change the text"
    out = {"text": text, "prediction": prediction}
    if pooled is not None:
        out["pooled"] = pooled
    return out


def main():
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    ADAPTERS.mkdir(exist_ok=True)
    pipes = {}
    for name, (model, *spec) in LORAS.items():
        if (MODELS / model).is_dir():
            pipes.setdefault(model, load(model))
            write_lora(name, pipes[model], *spec)
    tensors, cases = {}, []
    for name, loras in CASES.items():
        model = LORAS[loras[0][0]][0]
        if model not in pipes:
            continue
        for key, value in run(model, loras).items():
            tensors[f"{name}/{key}"] = value.contiguous()
        files = [dict(file=f"{lora}.safetensors", weight=unet, text_weight=text) for lora, unet, text in loras]
        cases.append(dict(name=name, model=model, loras=files))
        print(f"lora {name}")
    save_file(tensors, GOLDEN / "lora.safetensors")
    spec = dict(prompt=PROMPT, timestep=TIMESTEP, latents=LATENTS, noise_seed="11", time_ids=TIME_IDS, cases=cases)
    (GOLDEN / "lora.json").write_text(json.dumps(spec, indent=1) + "\n")


if __name__ == "__main__":
    main()
