"""Encoders, tiles and tiny autoencoders a second time, in numpy, after docs/DETERMINISM.md and with no code of the
engine.

    venv/bin/python strict_autoencoders.py

Writes `golden/strict_autoencoders.json`: the SHA-256 of each result (as float32, lowest byte first). Inputs are
Seedfarm's noise with seed 9. Needs numpy alone.
"""

import hashlib
import json

import numpy as np

from noise import standard_normal
from strict_networks import (
    F, HERE, conv_layer, decode_planes, group_norm_layer, load, middle_of_vae, residual,
)
from strict import conv, exp, relu, silu, tanh_clamp, upsample

SEED = 9


def draw(index, *shape):
    return standard_normal(SEED, index, shape)


def autoencoder(*names):
    folder = HERE.joinpath("models", *names)
    return json.loads((folder / "config.json").read_text()), load(folder / "diffusion_pytorch_model.safetensors")


def encode(vae, pixels):
    """The moments."""
    (config, part), groups = vae, vae[0]["norm_num_groups"]
    encoder = part.at("encoder")
    h = conv_layer(encoder.at("conv_in"), pixels)
    for block in encoder.list("down_blocks"):
        for resnet in block.list("resnets"):
            h = residual(resnet, h, groups, 1e-6)
        if "downsamplers" in block:
            halve = block.at("downsamplers.0.conv")
            h = conv(h, halve["weight"], halve["bias"], 2, 0, 1, 0, 1)
    h = middle_of_vae(encoder.at("mid_block"), h, groups)
    h = conv_layer(encoder.at("conv_out"), silu(group_norm_layer(encoder.at("conv_norm_out"), h, groups, 1e-6)))
    if config["use_quant_conv"]:
        h = conv_layer(part.at("quant_conv"), h)
    mean, log_variance = np.split(h, 2, axis=1)
    return mean, np.clip(log_variance, F(-30), F(20))


def sample(moments, noise):
    mean, log_variance = moments
    return mean + exp(F(0.5) * log_variance) * noise


def tiles(length, tile, overlap):
    if length <= tile:
        return [(0, length)]
    m = length - overlap
    k = -(-m // (tile - overlap))
    return [(i * m // k, (i + 1) * m // k + overlap) for i in range(k)]


def blended(earlier, later, axis, shared):
    """Two joined along an axis, of which they share some places."""
    earlier, later = np.moveaxis(earlier, axis, -1), np.moveaxis(later, axis, -1)
    w = np.array([F(2 * j + 1) / F(2 * shared) for j in range(shared)], F)
    both = (F(1) - w) * earlier[..., -shared:] + w * later[..., :shared]
    return np.moveaxis(np.concatenate([earlier[..., :-shared], both, later[..., shared:]], axis=-1), -1, axis)


def decode_tiled(vae, latents, tile, overlap):
    shared = overlap * 2 ** (len(vae[0]["block_out_channels"]) - 1)
    picture = None
    for top, bottom in tiles(latents.shape[2], tile, overlap):
        strip = None
        for left, right in tiles(latents.shape[3], tile, overlap):
            one = decode_planes(vae, latents[:, :, top:bottom, left:right])
            strip = one if strip is None else blended(strip, one, 3, shared)
        picture = strip if picture is None else blended(picture, strip, 2, shared)
    return picture


def tiny_conv(part, x, stride=1):
    bias = part["bias"] if "bias" in part else np.zeros(len(part["weight"]), F)
    return conv(x, part["weight"], bias, stride, 1, 1, 1, 1)


def tiny_block(part, x):
    h = relu(tiny_conv(part.at("conv.0"), x))
    h = relu(tiny_conv(part.at("conv.2"), h))
    return relu(tiny_conv(part.at("conv.4"), h) + x)


def tiny_decode(tiny, latents):
    config, part = tiny
    layers, place = part.at("decoder.layers"), 2
    h = relu(tiny_conv(layers.at(0), tanh_clamp(latents, 3)))
    for stage, blocks in enumerate(config["num_decoder_blocks"]):
        for _ in range(blocks):
            h, place = tiny_block(layers.at(place), h), place + 1
        if stage + 1 < len(config["num_decoder_blocks"]):
            h, place = upsample(h), place + 1
        h, place = tiny_conv(layers.at(place), h), place + 1
    return h * F(2) - F(1)


def tiny_encode(tiny, pixels):
    config, part = tiny
    layers, place, h = part.at("encoder.layers"), 0, (pixels + F(1)) / F(2)
    for stage, blocks in enumerate(config["num_encoder_blocks"]):
        h, place = tiny_conv(layers.at(place), h, 1 if stage == 0 else 2), place + 1
        for _ in range(blocks):
            h, place = tiny_block(layers.at(place), h), place + 1
    return tiny_conv(layers.at(place), h)


def results():
    for name, latent, size in [("tiny-sd1/vae", 4, (72, 56)), ("bare-vae", 3, (9, 14))]:
        vae = autoencoder(*name.split("/"))
        moments = encode(vae, draw(0, 1, 3, *size))
        yield f"{name}/mean", moments[0]
        yield f"{name}/log_variance", moments[1]
        yield f"{name}/sample", sample(moments, draw(2, *moments[0].shape))
    yield "tiny-sd1/vae/tiled", decode_tiled(autoencoder("tiny-sd1", "vae"), draw(1, 1, 4, 13, 9), 8, 2)
    tiny = autoencoder("tiny-taesd")
    yield "tiny-taesd/decoded", tiny_decode(tiny, draw(1, 1, 4, 5, 7) * F(3))
    yield "tiny-taesd/encoded", tiny_encode(tiny, draw(0, 1, 3, 40, 56))


def main():
    digests = {}
    for name, result in results():
        assert result.dtype == F and np.isfinite(result).all(), name
        digests[name] = hashlib.sha256(np.ascontiguousarray(result).astype("<f4").tobytes()).hexdigest()
    (HERE / "golden/strict_autoencoders.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
