"""Whole strict images a second time, in numpy, after docs/DETERMINISM.md and with no code of the engine.

    python -m venv venv && venv/bin/pip install numpy==2.4.6
    venv/bin/python strict_twin.py

Renders the recipes below with the two tiny models and the built-in one and writes `golden/strict.json`: each
recipe with the SHA-256 of its last latents (as float32, lowest byte first) and of its pixels. Takes four minutes
on one core.

Token ids are those of transformers, which `generate.py` wrote to `golden/tokens.json`; operations are in
`crates/numerics/tests/golden/strict.py`, networks in `strict_networks.py`, samplers in
`strict_samplers.py`, noise in `noise.py`.
"""

import hashlib
import json
import pathlib
import struct

import numpy as np

import strict_samplers
from noise import standard_normal
from strict_networks import BUILT_IN, F, TOKENS, Model, decode, encode, predict

HERE = pathlib.Path(__file__).parent
EMPTY, CAT, HORSE, WOW, UNICODE, LONG = TOKENS["prompts"]
SD1 = dict(
    train_steps=1000, beta_start=0.00085, beta_end=0.012, beta_curve="scaled_linear", prediction="epsilon",
    spacing="linspace", steps_offset=1, set_alpha_to_one=True,
)
SD2 = dict(
    train_steps=1000, beta_start=0.0001, beta_end=0.02, beta_curve="linear", prediction="v_prediction",
    spacing="trailing", steps_offset=1, set_alpha_to_one=True,
)
SCHEDULES = {"tiny-sd1": SD1, "tiny-sd2": SD2, BUILT_IN: dict(SD1, spacing="leading", set_alpha_to_one=False)}


def recipe(name, sampler, steps, guidance, seed, prompt, negative, size, batch=None, **schedule):
    """Recipes of one `batch` may be rendered together."""
    model = name.split("/")[0]
    schedule = dict(SCHEDULES[model], **schedule)
    return dict(
        name=name, model=model, batch=batch, sampler=sampler, noise_schedule=schedule,
        timesteps=strict_samplers.spaced(schedule, sampler, steps), guidance=guidance, seed=str(seed), prompt=prompt,
        negative_prompt=negative, width=size[0], height=size[1],
    )


def recipes():
    one, two, three = (f"{model}/" for model in SCHEDULES)
    yield recipe(one + "ddim", "ddim", 3, 5.0, 1, CAT, EMPTY, (24, 16))
    yield recipe(one + "ddim-odd", "ddim", 2, 7.5, 2**32, HORSE, LONG, (24, 40))
    yield recipe(one + "ddim-leading", "ddim", 4, 1.0, 3, WOW, EMPTY, (8, 8), spacing="leading", set_alpha_to_one=False)
    yield recipe(one + "euler", "euler", 3, 2.0, 2**63 + 11, LONG, CAT, (16, 24))
    yield recipe(one + "euler-largest", "euler", 2, 1.0, 5, UNICODE, CAT, (32, 24))
    yield recipe(one + "euler-leading", "euler", 4, 3.1, 6, CAT, WOW, (8, 24), spacing="leading")
    yield recipe(one + "euler-one-step", "euler", 1, 4.0, 7, HORSE, EMPTY, (16, 16), spacing="trailing")
    for index, (guidance, seed, prompt, negative) in enumerate(
        [(7.5, 8, CAT, EMPTY), (1.5, 2**32 + 8, WOW, LONG), (3.3, 2**64 - 1, EMPTY, CAT), (7.5, 2**64 - 1, CAT, EMPTY)]
    ):
        yield recipe(
            f"{one}ancestral-together-{index}", "euler_ancestral", 3, guidance, seed, prompt, negative, (16, 24),
            batch="ancestral",
        )
    yield recipe(one + "ancestral-unguided", "euler_ancestral", 4, 1.0, 9, LONG, EMPTY, (24, 8), spacing="leading")
    yield recipe(two + "ddim", "ddim", 3, 6.5, 10, HORSE, WOW, (24, 24))
    for index, (seed, prompt) in enumerate([(2**64 - 1, CAT), (11, UNICODE)]):
        yield recipe(f"{two}ddim-together-{index}", "ddim", 2, 1.0, seed, prompt, EMPTY, (24, 16), batch="velocity")
    yield recipe(two + "euler", "euler", 3, 2.25, 2**40 + 12, WOW, EMPTY, (32, 24))
    for index, (guidance, seed) in enumerate([(7.5, 13), (1.1, 2**33 + 13), (20.0, 13)]):
        yield recipe(
            f"{two}euler-together-{index}", "euler", 6, guidance, seed, LONG, CAT, (8, 8), batch="points",
            spacing="linspace",
        )
    yield recipe(two + "ancestral", "euler_ancestral", 3, 4.5, 2**64 - 2, UNICODE, HORSE, (16, 8))
    yield recipe(two + "ancestral-leading", "euler_ancestral", 2, 1.0, 14, CAT, EMPTY, (24, 40), spacing="leading")

    yield recipe(three + "ddim", "ddim", 2, 3.0, 2**64 - 1, CAT, EMPTY, (64, 64))
    yield recipe(three + "euler", "euler", 2, 1.0, 2**64 - 1, CAT, EMPTY, (64, 64))
    yield recipe(three + "ancestral", "euler_ancestral", 2, 3.0, 2**64 - 1, CAT, EMPTY, (64, 64))
    yield recipe(three + "ddim-odd", "ddim", 3, 6.0, 2**32 + 15, UNICODE, LONG, (24, 40), spacing="trailing")
    for index, seed in enumerate([16, 2**40 + 16]):
        yield recipe(
            f"{three}ancestral-together-{index}", "euler_ancestral", 2, 4.0 + index, seed, CAT, HORSE, (24, 16),
            batch="emoji", spacing="linspace",
        )

    others = ["ddpm", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "lcm", "unipc", "pndm"]
    for index, sampler in enumerate(others):
        guidance = 1.0 + 3.5 * (index % 2)
        yield recipe(one + sampler, sampler, 3, guidance, 20 + index, CAT, EMPTY, (16, 8))
        yield recipe(two + sampler, sampler, 3, 5.5 - guidance, 30 + index, WOW, HORSE, (8, 16))
        yield recipe(three + sampler, sampler, 2, guidance, 40 + index, CAT, EMPTY, (24, 16))
    for index, sampler in enumerate(["heun", "dpmpp_sde", "unipc", "pndm"]):
        for place in range(2):
            yield recipe(
                f"{one}{sampler}-together-{place}", sampler, 3, 2.0, 50 + index + 4 * place, CAT, HORSE, (8, 8),
                batch=sampler,
            )


def sample(model, recipe):
    """The last latents of a recipe."""
    scale = 2 ** (len(model.vae[0]["block_out_channels"]) - 1)
    shape = (model.unet[0]["in_channels"], recipe["height"] // scale, recipe["width"] // scale)
    noise = lambda draw: standard_normal(int(recipe["seed"]), draw, shape)
    guidance = recipe["guidance"]
    texts = [recipe["negative_prompt"], recipe["prompt"]] if guidance > 1 else [recipe["prompt"]]
    texts = np.concatenate([encode(model, text) for text in texts])

    def network(shown, timestep):
        p = predict(model, np.stack([shown] * len(texts)), timestep, texts)
        return p[0] + F(guidance) * (p[1] - p[0]) if len(texts) == 2 else p[0]

    return strict_samplers.sample(recipe, noise, network)[-1]


def main():
    models = {name: Model(name) for name in SCHEDULES}
    rendered = []
    for spec in recipes():
        model = models[spec["model"]]
        latents = sample(model, spec)
        pixels = decode(model, latents)
        assert pixels.shape == (spec["height"], spec["width"], 3)
        digest = lambda raw: hashlib.sha256(raw).hexdigest()
        size = struct.pack("<II", spec["width"], spec["height"])
        rendered.append(dict(
            spec, latents_sha256=digest(latents.astype("<f4").tobytes()), pixels_sha256=digest(size + pixels.tobytes()),
        ))
        print(spec["name"], rendered[-1]["pixels_sha256"])
    (HERE / "golden/strict.json").write_text(json.dumps(rendered, indent=1) + "\n")


if __name__ == "__main__":
    main()
