"""Strict calls of single networks a second time, in numpy, after docs/DETERMINISM.md and with no code of the engine.

    venv/bin/python strict_conditions.py

Text encoders with layers left out, Stable Diffusion XL's pooled text and sizes, samples at different timesteps, the
guidance scale as an input, uneven depths, nine channels, ControlNets. Writes `golden/strict_conditions.json`: the
SHA-256 of each result (as float32, lowest byte first). Texts are those whose token ids `sdxl.py` and `controlnet.py`
wrote. Needs numpy alone.
"""

import hashlib
import json

import numpy as np

from noise import standard_normal
from strict_networks import (
    F, HERE, ascend, conv_layer, descend, encode_ids, final_norm, hidden_states, linear_layer, load, silu, sinusoids, waves,
)

XL = json.loads((HERE / "golden/sdxl.json").read_text())
NETWORKS = json.loads((HERE / "golden/networks.json").read_text())
SCALES = (1.0, 0.3, -1.7)


def part(model, kind="", file="diffusion_pytorch_model"):
    folder = HERE / "models" / model / kind
    return json.loads((folder / "config.json").read_text()), load(folder / f"{file}.safetensors")


def normal(seed, *shape):
    return standard_normal(seed, 0, shape)


def encode_xl(encoders, rows, skip=0):
    """Both encoders' widths side by side, and the pooled text of the second."""
    states = [hidden_states(text, ids) for text, ids in zip(encoders, rows)]
    sequence = np.concatenate([of_text[len(of_text) - 2 - skip] for of_text in states], axis=-1)
    config, weights = encoders[1]
    end = config["eos_token_id"]
    place = int(np.argmax(rows[1])) if end == 2 else rows[1].index(end)
    last = final_norm(encoders[1], states[1][-1][:, place:place + 1])
    return sequence, linear_layer(weights.at("text_projection"), last)[:, 0]


def added_rows(config, pooled, time_ids):
    width = config["addition_time_embed_dim"]
    numbers = lambda ids: [sinusoids(config, number, width)[0] for number in ids]
    return np.stack([np.concatenate([text, *numbers(ids)]) for text, ids in zip(pooled, time_ids)])


def guidance_rows(config, scales):
    width = config["time_cond_proj_dim"]
    half = width // 2
    arguments = np.arange(half).astype(F) * -(F(9.2103405) / F(half - 1))
    return np.concatenate([waves(F(scale - 1.0) * F(1000), arguments, width, False) for scale in scales])


def picture(index):
    """Bytes that no row, column or plane repeats, divided by 255."""
    plane, y, x = np.meshgrid(np.arange(3), np.arange(72), np.arange(56), indexing="ij")
    return ((plane * 85 + y * 7 + x * 3 + index * 31) % 256).astype(F)[None] / F(255)


def hint(network, pixels):
    config, weights = network
    own = weights.at("controlnet_cond_embedding")
    if config["controlnet_conditioning_channel_order"] == "bgr":
        pixels = pixels[:, ::-1]
    h = silu(conv_layer(own.at("conv_in"), pixels))
    for index, block in enumerate(own.list("blocks")):
        h = silu(conv_layer(block, h, stride=1 + index % 2))
    return conv_layer(own.at("conv_out"), h)


def control(network, x, timesteps, texts, pixels, scale, added=None):
    _, weights = network
    _, kept, middle = descend(network, x, timesteps, texts, added=added, hint=hint(network, pixels))
    down = [conv_layer(conv, h) * F(scale) for conv, h in zip(weights.list("controlnet_down_blocks"), kept)]
    return [*down, conv_layer(weights.at("controlnet_mid_block"), middle) * F(scale)]


def controlled(network, x, timesteps, texts, terms, added=None):
    time, kept, h = descend(network, x, timesteps, texts, added=added)
    kept = [own + term for own, term in zip(kept, terms)]
    return ascend(network, (time, kept, h + terms[-1]), texts)


def inpainting(timesteps):
    text, unet, net = part("tiny-inpaint", "text_encoder", "model"), part("tiny-inpaint", "unet"), part("tiny-control")
    rows = NETWORKS["tokens"]
    for index, ids in enumerate(rows):
        for skip in range(4):
            yield f"inpaint/text/{index}/skip_{skip}", encode_ids(text, ids, skip)
    texts = np.concatenate([encode_ids(text, ids) for ids in rows])
    x = normal(61, 3, 9, 9, 7)
    yield "inpaint/prediction", ascend(unet, descend(unet, x, timesteps, texts), texts)
    terms = control(net, normal(62, 3, 4, 9, 7), timesteps, texts, picture(0), SCALES[1])
    yield from ((f"control/term_{index}", term) for index, term in enumerate(terms))
    yield "control/prediction", controlled(unet, x, timesteps, texts, terms)


def extra_large(timesteps):
    encoders = part("tiny-sdxl", "text_encoder", "model"), part("tiny-sdxl", "text_encoder_2", "model")
    unet, net = part("tiny-sdxl", "unet"), part("tiny-control-xl")
    for index, rows in enumerate(XL["tokens"]):
        for skip in XL["skips"]:
            yield f"xl/text/{index}/skip_{skip}", encode_xl(encoders, rows, skip)[0]
        yield f"xl/text/{index}/pooled", encode_xl(encoders, rows)[1]
    texts, pooled = (np.concatenate(parts) for parts in zip(*(encode_xl(encoders, rows) for rows in XL["tokens"])))
    x = normal(63, 3, 4, 9, 7)
    added = lambda network: added_rows(network[0], pooled, NETWORKS["time_ids"])
    yield "xl/prediction", ascend(unet, descend(unet, x, timesteps, texts, added=added(unet)), texts)
    one, two = (
        control(net, x, timesteps, texts, picture(index), scale, added(net)) for index, scale in ((1, SCALES[0]), (2, SCALES[2]))
    )
    terms = [first + second for first, second in zip(one, two)]
    yield "control_xl/prediction", controlled(unet, x, timesteps, texts, terms, added(unet))


def alone(timesteps):
    texts = normal(64, 3, 5, 10)
    distilled, uneven = part("tiny-distilled", "unet"), part("unet-uneven")
    rows = guidance_rows(distilled[0], NETWORKS["guidance"])
    descent = descend(distilled, normal(65, 3, 4, 9, 7), timesteps, texts, guidance=rows)
    yield "distilled/prediction", ascend(distilled, descent, texts)
    yield "uneven/prediction", ascend(uneven, descend(uneven, normal(66, 3, 8, 9, 7), timesteps, texts), texts)


def main():
    results = {}
    for kind in (inpainting, extra_large, alone):
        for name, result in kind(NETWORKS["timesteps"]):
            assert result.dtype == F and np.isfinite(result).all(), name
            results[name] = hashlib.sha256(np.ascontiguousarray(result).astype("<f4").tobytes()).hexdigest()
    (HERE / "golden/strict_conditions.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
