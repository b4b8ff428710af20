"""LoRAs, learned words and weights of prompts in strict numerics a second time, after docs/DETERMINISM.md.

    venv/bin/python strict_adapters.py

Needs numpy alone, shares no code with the engine, and writes `golden/strict_adapters.json`: the SHA-256 of weights
with LoRAs merged into them, and of what weighted prompts become, as float32 with the lowest byte first. The tokens
of prompts are those that `prompts.py` laid out and wrote to `golden/prompts.json`.
"""

import hashlib
import json
import pathlib

import numpy as np

from strict_networks import D, F, Model, Part, encode, linear, load

HERE = pathlib.Path(__file__).parent
GOLDEN, ADAPTERS = HERE / "golden", HERE / "adapters"
# name of the case in lora.py: the merged tensors to compare
MERGED = {
    "three": [
        "down_blocks.0.resnets.0.conv1.weight", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "mid_block.attentions.0.proj_in.weight", "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj.weight",
    ],
    "kohya-mid": ["up_blocks.0.resnets.1.conv1.weight"],
    "peft-metadata": [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight",
    ],
}


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()


def metadata(file):
    raw = file.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return json.loads(header.get("__metadata__", {}).get("lora_adapter_metadata", "{}"))


def factors(tensors, name):
    """Down, up, mid and alpha of a layer, whichever way the file has."""
    for layer, down, up in (
        ("lora_unet_" + name.replace(".", "_"), "lora_down", "lora_up"), ("unet." + name, "lora_A", "lora_B"),
    ):
        if f"{layer}.{down}.weight" in tensors:
            get = lambda role: tensors.get(f"{layer}.{role}.weight")
            return get(down), get(up), get("lora_mid"), tensors.get(f"{layer}.alpha")
    return None


def scale(file, name, rank, alpha):
    said = metadata(file)
    if alpha is not None:
        return D(alpha) / rank
    if not said:
        return D(1)
    patterns = said["unet.alpha_pattern"]
    fits = [key for key in sorted(patterns) if name == key.removeprefix("^") or name.endswith("." + key)]
    alpha = D(patterns[fits[0]] if fits else said["unet.lora_alpha"])
    return alpha / (np.sqrt(D(rank)) if said["unet.use_rslora"] else D(rank))


def merge(weight, name, loras):
    for lora in loras:
        file = ADAPTERS / lora["file"]
        found = factors(load(file).tensors, name.removesuffix(".weight"))
        if found is None or lora["weight"] == 0:
            continue
        down, up, mid, alpha = found
        rank = down.shape[0]
        if mid is not None:
            # For each place of the kernel a product over the second rank.
            inner = down.reshape(rank, -1).T
            places = [linear(inner, mid[:, :, y, x]).T for y in range(mid.shape[2]) for x in range(mid.shape[3])]
            down = np.stack(places, -1)
        change = linear(up.reshape(-1, rank), down.reshape(rank, -1).T)
        factor = F(D(lora["weight"]) * scale(file, name.removesuffix(".weight"), rank, alpha))
        weight = weight + (factor * change).reshape(weight.shape)
    return weight


class Prompt:
    """One window for `strict_networks.encode`: learned vectors are ids behind the vocabulary."""

    def __init__(self, text, row, vectors):
        config, part = text
        key = "embeddings.token_embedding.weight"
        self.row = np.array([token if token >= 0 else len(part[key]) - 1 - token for token in row])
        self.text = config, Part({**part.tensors, key: np.concatenate([part[key], vectors])})

    def ids(self, _prompt):
        return self.row


def emphasize(hidden, weights):
    if all(weight == 1 for weight in weights):
        return hidden
    total = lambda values: float(np.cumsum(values.reshape(-1).astype(D))[-1])
    before = total(hidden)
    hidden = hidden * np.array(weights, D).astype(F)[None, :, None]
    return hidden * F(before / total(hidden))


def weighted(model, case):
    files = [load(ADAPTERS / f"{file}.safetensors").tensors for file in case["words"].values()]
    vectors = [tensor.reshape(-1, tensor.shape[-1]) for tensors in files for tensor in tensors.values()]
    width = model.text[0]["hidden_size"]
    vectors = np.concatenate([np.zeros((0, width), F), *vectors])
    chunks = [
        emphasize(encode(Prompt(model.text, chunk["ids"], vectors), None), chunk["weights"]) for chunk in case["rows"]
    ]
    return np.concatenate(chunks, 1)


def main():
    loras = {case["name"]: case for case in json.loads((GOLDEN / "lora.json").read_text())["cases"]}
    models = {name: Model(name) for name in ("tiny-sd1", "tiny-sd2")}
    out = {"merged": [], "prompts": {}}
    for name, tensors in MERGED.items():
        case = loras[name]
        for tensor in tensors:
            merged = merge(models[case["model"]].unet[1][tensor], tensor, case["loras"])
            out["merged"].append(dict(case=name, tensor=tensor, shape=merged.shape, sha256=digest(merged)))
    for case in json.loads((GOLDEN / "prompts.json").read_text())["cases"]:
        if case["model"] in models and case["syntax"] == "weighted" and case["skip"] == 0:
            out["prompts"][case["name"]] = digest(weighted(models[case["model"]], case))
    (GOLDEN / "strict_adapters.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
