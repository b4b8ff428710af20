"""Whole strict images a second time, in numpy, after docs/DETERMINISM.md and with no code of the engine.

    python -m venv venv && venv/bin/pip install numpy==2.4.6
    venv/bin/python strict_twin.py

Renders the recipes below with the two tiny models and the built-in one and writes `golden/strict.json`: each
recipe with the SHA-256 of its last latents (as float32, lowest byte first) and of its pixels. Takes a minute on one
core.

Token ids are those of transformers, which `generate.py` wrote to `golden/tokens.json`; operations are in
`crates/numerics/tests/golden/strict.py`, networks in `strict_networks.py`, noise in `noise.py`.
"""

import hashlib
import json
import math
import pathlib
import struct

import numpy as np

from noise import standard_normal
from strict_networks import BUILT_IN, D, F, TOKENS, Model, decode, encode, predict

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
        timesteps=timesteps(schedule, sampler, steps), guidance=guidance, seed=str(seed), prompt=prompt,
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


def timesteps(schedule, sampler, n):
    steps, spacing = schedule["train_steps"], schedule["spacing"]
    if spacing == "leading":
        chosen = [float(min(i * (steps // n) + schedule["steps_offset"], steps - 1)) for i in range(n)]
    elif spacing == "trailing":
        chosen = [float(np.rint(steps - i * (steps / n))) - 1 for i in range(n)]
    else:
        chosen = [0.0] if n == 1 else [i * ((steps - 1) / (n - 1)) for i in range(n - 1)] + [float(steps - 1)]
        chosen = [float(np.rint(t)) if sampler == "ddim" else float(F(t)) for t in chosen]
    return sorted(chosen, reverse=True)


def alphas(schedule):
    n = schedule["train_steps"]
    scaled = schedule["beta_curve"] == "scaled_linear"
    ends = (schedule["beta_start"], schedule["beta_end"])
    b, c = (F(math.sqrt(end)) if scaled else F(end) for end in ends)
    gap = (c - b) / F(n - 1)
    i = np.arange(n)
    beta = np.where(i < n // 2, b + gap * i.astype(F), c - gap * (n - 1 - i).astype(F))
    beta = beta * beta if scaled else beta
    return np.cumprod((F(1) - beta).astype(D)).astype(F)


class Ddim:
    draws = False

    def __init__(self, schedule, timesteps):
        self.alpha, self.initial = alphas(schedule), F(1)
        self.velocity = schedule["prediction"] == "v_prediction"
        stride = schedule["train_steps"] // len(timesteps)
        end = F(1) if schedule["set_alpha_to_one"] else self.alpha[0]
        at = [int(t) for t in timesteps]
        self.pairs = [(self.alpha[t], self.alpha[t - stride] if t >= stride else end) for t in at]

    def model_input(self, k, x):
        return x

    def step(self, k, x, p, noise):
        a, b = self.pairs[k]
        image, rest = np.sqrt(a), np.sqrt(F(1) - a)
        d, e = (image * x - rest * p, image * p + rest * x) if self.velocity else ((x - rest * p) / image, p)
        return np.sqrt(b) * d + np.sqrt(F(1) - b) * e


class Euler:
    draws = False

    def __init__(self, schedule, timesteps):
        alpha = alphas(schedule)
        self.velocity = schedule["prediction"] == "v_prediction"
        s = np.sqrt((F(1) - alpha) / alpha).astype(D)
        s = np.append(s, s[-1])
        level = lambda t, i: F((s[i + 1] - s[i]) * (t - i) + s[i])
        self.levels = [level(t, int(t)) for t in timesteps] + [F(0)]
        m = D(max(self.levels))
        self.initial = F(np.sqrt(m * m + 1)) if schedule["spacing"] == "leading" else F(m)

    def model_input(self, k, x):
        s = D(self.levels[k])
        return x / F(np.sqrt(s * s + 1))

    def denoised(self, k, x, p):
        s = D(self.levels[k])
        if self.velocity:
            return p * F(-s / np.sqrt(s * s + 1)) + x / F(s * s + 1)
        return x - F(s) * p

    def step(self, k, x, p, noise):
        s, z = self.levels[k], self.levels[k + 1]
        return x + ((x - self.denoised(k, x, p)) / s) * (z - s)


class EulerAncestral(Euler):
    draws = True

    def step(self, k, x, p, noise):
        s, z = D(self.levels[k]), D(self.levels[k + 1])
        up = np.sqrt(max(((z * z) * (s * s - z * z)) / (s * s), D(0)))
        down = np.sqrt(max(z * z - up * up, D(0)))
        d = self.denoised(k, x, p)
        return (x + ((x - d) / F(s)) * (F(down) - F(s))) + noise * F(up)


SAMPLERS = dict(ddim=Ddim, euler=Euler, euler_ancestral=EulerAncestral)


def sample(model, recipe):
    """The last latents of a recipe."""
    sampler = SAMPLERS[recipe["sampler"]](recipe["noise_schedule"], recipe["timesteps"])
    scale = 2 ** (len(model.vae[0]["block_out_channels"]) - 1)
    shape = (model.unet[0]["in_channels"], recipe["height"] // scale, recipe["width"] // scale)
    noise = lambda draw: standard_normal(int(recipe["seed"]), draw, shape)
    guidance = recipe["guidance"]
    texts = [recipe["negative_prompt"], recipe["prompt"]] if guidance > 1 else [recipe["prompt"]]
    texts = np.concatenate([encode(model, text) for text in texts])
    x = noise(0) * sampler.initial
    for k, timestep in enumerate(recipe["timesteps"]):
        shown = np.stack([sampler.model_input(k, x)] * len(texts))
        p = predict(model, shown, timestep, texts)
        p = p[0] + F(guidance) * (p[1] - p[0]) if len(texts) == 2 else p[0]
        x = sampler.step(k, x, p, noise(k + 1) if sampler.draws else None)
        assert x.dtype == F
    return x


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
