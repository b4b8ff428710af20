"""The networks of docs/DETERMINISM.md in numpy, with no code of the engine.

A model's folder is read by hand: a safetensors file is the length of a JSON header, the header, and the numbers.
"""

import json
import math
import pathlib
import struct
import sys

import numpy as np

from noise import narrow

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path.append(str(REPOSITORY / "crates/numerics/tests/golden"))
from strict import (  # noqa: E402
    D, F, attention, conv, geglu, gelu, group_norm, layer_norm, linear, quick_gelu, silu, upsample,
)

BUILT_IN = "emoji-starter"
TOKENS = json.loads((HERE / "golden/tokens.json").read_text())


class Part:
    """A place in the tree of weights, as in `down_blocks.0.resnets.1`."""

    def __init__(self, tensors, path=()):
        self.tensors, self.path = tensors, path

    def at(self, *names):
        return Part(self.tensors, self.path + names)

    def __contains__(self, name):
        path = ".".join(map(str, (*self.path, name)))
        return any(f"{key}.".startswith(f"{path}.") for key in self.tensors)

    def __getitem__(self, name):
        return self.tensors[".".join(map(str, (*self.path, name)))]

    def list(self, name):
        """The numbered parts below a name, from 0; none where there is no such name."""
        parts = self.at(name)
        count = 0
        while count in parts:
            count += 1
        return [parts.at(index) for index in range(count)]


def widen(dtype, raw):
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(F)
    return np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[dtype]).astype(F)


def load(file):
    """A safetensors file: the length of a JSON header, the header, the numbers."""
    raw = file.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            tensors[name] = widen(entry["dtype"], raw[first:last]).reshape(entry["shape"])
    return Part(tensors)


class Model:
    def __init__(self, name):
        folder = (REPOSITORY if name == BUILT_IN else HERE) / "models" / name
        part = lambda kind, file: (
            json.loads((folder / kind / "config.json").read_text()), load(folder / kind / f"{file}.safetensors")
        )
        self.name = name
        self.text = part("text_encoder", "model")
        self.unet = part("unet", "diffusion_pytorch_model")
        self.vae = part("vae", "diffusion_pytorch_model")

    def ids(self, prompt):
        return TOKENS["ids"][self.name][TOKENS["prompts"].index(prompt)]


def linear_layer(part, x):
    weight = part["weight"]
    return linear(x, weight.reshape(weight.shape[:2]), part["bias"] if "bias" in part else None)


def conv_layer(part, x, stride=1):
    weight = part["weight"]
    padding = weight.shape[-1] // 2
    return conv(x, weight, part["bias"], stride, *[padding] * 4)


def group_norm_layer(part, x, groups, epsilon):
    flat = group_norm(x.reshape(*x.shape[:2], -1), groups, part["weight"], part["bias"], epsilon)
    return flat.reshape(x.shape)


def layer_norm_layer(part, x, epsilon):
    return layer_norm(x, part["weight"], part["bias"], epsilon)


def attend(q, k, v, heads, causal=False):
    width = q.shape[-1] // heads
    return attention(q, k, v, heads, F(1 / math.sqrt(width)), causal)


def to_rows(x):
    return x.reshape(*x.shape[:2], -1).swapaxes(1, 2)


def to_planes(rows, like):
    return rows.swapaxes(1, 2).reshape(like.shape)


def residual(part, x, groups, epsilon, time=None):
    h = conv_layer(part.at("conv1"), silu(group_norm_layer(part.at("norm1"), x, groups, epsilon)))
    if time is not None:
        h = h + linear_layer(part.at("time_emb_proj"), time)[:, :, None, None]
    h = conv_layer(part.at("conv2"), silu(group_norm_layer(part.at("norm2"), h, groups, epsilon)))
    return (conv_layer(part.at("conv_shortcut"), x) if "conv_shortcut" in part else x) + h


def text_model(part):
    """An encoder with a projection beside it is one step further down."""
    return part.at("text_model") if "text_model" in part else part


def hidden_states(text, ids):
    """The embeddings and what each layer makes of them."""
    config, part = text[0], text_model(text[1])
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]
    activate = {"gelu": gelu, "quick_gelu": quick_gelu}[config["hidden_act"]]
    embeddings = part.at("embeddings")
    h = embeddings["token_embedding.weight"][ids] + embeddings["position_embedding.weight"][:len(ids)]
    states = [h[None]]
    for layer in part.list("encoder.layers"):
        h = states[-1]
        n = layer_norm_layer(layer.at("layer_norm1"), h, epsilon)
        own = layer.at("self_attn")
        q, k, v = (linear_layer(own.at(f"{kind}_proj"), n) for kind in "qkv")
        h = h + linear_layer(own.at("out_proj"), attend(q, k, v, heads, causal=True))
        n = layer_norm_layer(layer.at("layer_norm2"), h, epsilon)
        states.append(h + linear_layer(layer.at("mlp.fc2"), activate(linear_layer(layer.at("mlp.fc1"), n))))
    return states


def final_norm(text, h):
    config, part = text[0], text_model(text[1])
    return layer_norm_layer(part.at("final_layer_norm"), h, config["layer_norm_eps"])


def encode_ids(text, ids, skip=0):
    """What Stable Diffusion 1 and 2 are shown of a row of tokens."""
    states = hidden_states(text, ids)
    return final_norm(text, states[len(states) - 1 - skip])


def encode(model, prompt):
    return encode_ids(model.text, model.ids(prompt))


def waves(number, arguments, width, cosines_first):
    angle = F(number) * narrow(np.exp(arguments.astype(D)))
    sines, cosines = narrow(np.sin(angle.astype(D))), narrow(np.cos(angle.astype(D)))
    row = [cosines, sines] if cosines_first else [sines, cosines]
    return np.concatenate([*row, np.zeros(width % 2, F)])[None]


def sinusoids(config, number, width):
    half = width // 2
    spread = F(D(half) - D(config["freq_shift"]))
    return waves(number, F(-9.2103405) * np.arange(half).astype(F) / spread, width, config["flip_sin_to_cos"])


def two_linears(part, row):
    return linear_layer(part.at("linear_2"), silu(linear_layer(part.at("linear_1"), row)))


def time_embedding(config, part, timestep, guidance=None, added=None):
    """One row. `part` is the network's own place; `guidance` and `added` are one row too."""
    row = sinusoids(config, timestep, config["block_out_channels"][0])
    if guidance is not None:
        row = row + linear_layer(part.at("time_embedding.cond_proj"), guidance)
    embedding = two_linears(part.at("time_embedding"), row)
    if added is not None:
        embedding = embedding + two_linears(part.at("add_embedding"), added)
    return silu(embedding)


def cross_attention(part, x, source, heads):
    q = linear_layer(part.at("to_q"), x)
    k, v = (linear_layer(part.at(name), source) for name in ("to_k", "to_v"))
    return linear_layer(part.at("to_out.0"), attend(q, k, v, heads))


def transformer(part, x, text, heads, groups):
    h = linear_layer(part.at("proj_in"), to_rows(group_norm_layer(part.at("norm"), x, groups, 1e-6)))
    for block in part.list("transformer_blocks"):
        n = layer_norm_layer(block.at("norm1"), h, 1e-5)
        h = h + cross_attention(block.at("attn1"), n, n, heads)
        h = h + cross_attention(block.at("attn2"), layer_norm_layer(block.at("norm2"), h, 1e-5), text, heads)
        n = layer_norm_layer(block.at("norm3"), h, 1e-5)
        h = h + linear_layer(block.at("ff.net.2"), geglu(linear_layer(block.at("ff.net.0.proj"), n)))
    return to_planes(linear_layer(part.at("proj_out"), h), x) + x


def descend(network, x, timesteps, texts, guidance=None, added=None, hint=None):
    """The way down and the middle: the time embedding, what was kept, and the output."""
    config, part = network
    groups, epsilon, blocks = config["norm_num_groups"], config["norm_eps"], len(config["block_out_channels"])
    heads = per_block(config.get("num_attention_heads") or config["attention_head_dim"], blocks)
    row = lambda rows, index: None if rows is None else rows[index:index + 1]
    time = np.concatenate([
        time_embedding(config, part, timestep, row(guidance, index), row(added, index))
        for index, timestep in enumerate(timesteps)
    ])
    layer = lambda part, x: residual(part, x, groups, epsilon, time)

    h = conv_layer(part.at("conv_in"), x)
    if hint is not None:
        h = h + hint
    kept = [h]
    for level, block in enumerate(part.list("down_blocks")):
        transformers = block.list("attentions")
        for index, resnet in enumerate(block.list("resnets")):
            h = layer(resnet, h)
            if transformers:
                h = transformer(transformers[index], h, texts, heads[level], groups)
            kept.append(h)
        if "downsamplers" in block:
            h = conv_layer(block.at("downsamplers.0.conv"), h, stride=2)
            kept.append(h)

    middle = part.at("mid_block")
    for index, resnet in enumerate(middle.list("resnets")):
        if index == 1:
            h = transformer(middle.at("attentions.0"), h, texts, heads[-1], groups)
        h = layer(resnet, h)
    return time, kept, h


def per_block(value, blocks):
    return value if isinstance(value, list) else [value] * blocks


def predict(model, x, timestep, texts):
    """One call of the UNet, with one text for each of x."""
    return ascend(model.unet, descend(model.unet, x, [timestep], texts), texts)


def ascend(network, descent, texts):
    """The way up from what the way down left."""
    config, part = network
    time, kept, h = descent
    kept = list(kept)
    groups, epsilon, blocks = config["norm_num_groups"], config["norm_eps"], len(config["block_out_channels"])
    heads = per_block(config.get("num_attention_heads") or config["attention_head_dim"], blocks)
    layer = lambda part, x: residual(part, x, groups, epsilon, time)
    for level, block in enumerate(part.list("up_blocks")):
        transformers = block.list("attentions")
        for index, resnet in enumerate(block.list("resnets")):
            h = layer(resnet, np.concatenate([h, kept.pop()], axis=1))
            if transformers:
                h = transformer(transformers[index], h, texts, heads[blocks - 1 - level], groups)
        if "upsamplers" in block:
            height, width = kept[-1].shape[2:]
            h = conv_layer(block.at("upsamplers.0.conv"), upsample(h)[:, :, :height, :width])
    return conv_layer(part.at("conv_out"), silu(group_norm_layer(part.at("conv_norm_out"), h, groups, epsilon)))


def middle_of_vae(part, h, groups):
    h = residual(part.at("resnets.0"), h, groups, 1e-6)
    if "attentions" in part:
        own = part.at("attentions.0")
        n = to_rows(group_norm_layer(own.at("group_norm"), h, groups, 1e-6))
        h = to_planes(cross_attention(own, n, n, 1), h) + h
    return residual(part.at("resnets.1"), h, groups, 1e-6)


def decode_planes(vae, h):
    """Latents, as the sampler leaves them, to planes of pixels."""
    (config, part), groups = vae, vae[0]["norm_num_groups"]
    if config["use_post_quant_conv"]:
        h = conv_layer(part.at("post_quant_conv"), h)
    part = part.at("decoder")
    h = middle_of_vae(part.at("mid_block"), conv_layer(part.at("conv_in"), h), groups)
    for block in part.list("up_blocks"):
        for resnet in block.list("resnets"):
            h = residual(resnet, h, groups, 1e-6)
        if "upsamplers" in block:
            h = conv_layer(block.at("upsamplers.0.conv"), upsample(h))
    return conv_layer(part.at("conv_out"), silu(group_norm_layer(part.at("conv_norm_out"), h, groups, 1e-6)))


def decode(model, latents):
    config = model.vae[0]
    h = decode_planes(model.vae, (latents / F(config["scaling_factor"]) + F(config["shift_factor"] or 0))[None])
    assert np.isfinite(h).all()
    cut = np.clip(h[0] * F(0.5) + F(0.5), F(0), F(1))
    return np.rint(cut * F(255)).astype(np.uint8).transpose(1, 2, 0)
