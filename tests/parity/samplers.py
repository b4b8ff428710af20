"""Runs the schedulers of diffusers on a network that is one line of arithmetic, and writes what Seedfarm's
samplers are compared with: timesteps, noise levels, and latents after each call of the network.

    venv/bin/python samplers.py

Writes `golden/samplers.json` (the cases) and `golden/samplers.safetensors`; and each sampler once with each of two
models of `models/` to `golden/sampler_images.json` and `.safetensors`.
"""

import hashlib
import importlib
import json
import pathlib
import sys
import types

import numpy as np
import torch
from safetensors.torch import save_file

import noise

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from diffusers.schedulers.scheduling_utils import AysSchedules
from diffusers.utils.torch_utils import randn_tensor

# diffusers needs torchsde for one class alone, whose noise is replaced here anyway.
sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))
sde = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde")

GOLDEN, MODELS = (pathlib.Path(__file__).parent / name for name in ("golden", "models"))
SHAPE = (1, 2, 2, 2)
SEED = 2**40 + 9
SAMPLERS = {
    "ddim": (DDIMScheduler, dict(clip_sample=False)),
    "ddpm": (DDPMScheduler, dict(clip_sample=False)),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_sde": (DPMSolverMultistepScheduler, dict(algorithm_type="sde-dpmsolver++")),
    "dpmpp_sde": (sde.DPMSolverSDEScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "pndm": (PNDMScheduler, dict(skip_prk_steps=True)),
}
SD1 = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
LEVELS = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "unipc")
ZERO_SNR = ("ddim", "ddpm", "euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "lcm", "unipc")
COUNTS = (1, 2, 3, 4, 5, 7, 10, 13, 20, 25, 28, 30, 48, 50, 61, 96, 100, 144, 250, 333, 499, 500)


def draw(number, shape=SHAPE):
    return torch.from_numpy(noise.standard_normal(SEED, number, tuple(shape)))


def network(x, t):
    """One line of arithmetic for a network: pixels that depend on one another, on themselves and on time."""
    t = float(t) / 1000
    return x * (0.9 - 0.3 * t) / (1 + 0.05 * x * x) + 0.1 * x.reshape(-1).roll(1).reshape(x.shape) - 0.02


class Path:
    """Noise of a Brownian path from two draws a step, in place of torchsde's."""

    first_step = 0

    def __init__(self, latents, *_args):
        self.calls, self.shape = 0, latents.shape

    def __call__(self, sigma, sigma_next):
        step, half = self.first_step + self.calls // 2, self.calls % 2
        self.calls += 1
        new = draw(1 + 2 * step + half, self.shape)
        if half == 0:
            self.middle, self.first = float(sigma_next), new
            return new
        whole = float(sigma) - float(sigma_next)
        share = lambda part: (part / whole) ** 0.5
        return share(float(sigma) - self.middle) * self.first + share(self.middle - float(sigma_next)) * new


def use_draws(first_step):
    """Gives every scheduler the draws of Seedfarm's numbering, in the shape that it asks for."""
    draws = iter(range(first_step + 1, 10_000))
    for name, module in sys.modules.items():
        if name.startswith("diffusers.schedulers.scheduling_") and hasattr(module, "randn_tensor"):
            module.randn_tensor = lambda shape, *_, **__: draw(next(draws), shape)
    Path.first_step = first_step
    sde.BrownianTreeNoiseSampler = Path


def use_torch():
    """Gives every scheduler PyTorch's draws back."""
    for name, module in sys.modules.items():
        if name.startswith("diffusers.schedulers.scheduling_") and hasattr(module, "randn_tensor"):
            module.randn_tensor = randn_tensor


def cases():
    def case(sampler, steps, **more):
        name = "/".join([sampler, str(steps), *(f"{key}={value}" for key, value in more.items())])
        return dict(name=name, sampler=sampler, steps=steps, more=more)

    for sampler in SAMPLERS:
        for spacing in ["leading"] if sampler == "lcm" else ["leading", "trailing", "linspace"]:
            for prediction in ["epsilon", "v_prediction"]:
                for steps in (4, 7) if sampler == "lcm" else (7, 20):
                    yield case(sampler, steps, timestep_spacing=spacing, prediction_type=prediction)
        few = 4 if sampler == "lcm" else 5
        yield case(sampler, few, beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
        if sampler != "pndm":
            yield case(sampler, few, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
        for start in (1, 2, 4) if sampler == "pndm" else (2,):
            yield case(sampler, few, start=start)
        yield case(sampler, 1)
    for sampler in LEVELS:
        for schedule in ("karras", "exponential"):
            for steps, spacing in ((7, "leading"), (20, "linspace"), (5, "trailing")):
                yield case(sampler, steps, sigma_schedule=schedule, timestep_spacing=spacing)
        yield case(sampler, 5, sigma_schedule="karras", start=2)
        yield case(sampler, 5, sigma_schedule="karras", beta_schedule="squaredcos_cap_v2")
    for schedule in ("ays_sd", "ays_sdxl"):
        for sampler in ("euler", "dpmpp_2m", "dpmpp_2m_sde"):
            yield case(sampler, 10, sigma_schedule=schedule)
    for sampler in ZERO_SNR:
        yield case(sampler, 4, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")
    for sampler in ("ddim", "ddpm", "euler", "heun", "dpmpp_2m", "lcm", "unipc"):
        yield case(sampler, 5, prediction_type="sample")
    for eta in (0.3, 1.0):
        yield case("ddim", 7, eta=eta)
        yield case("ddim", 5, eta=eta, timestep_spacing="trailing", prediction_type="v_prediction", start=1)
    yield case("ddpm", 7, variance_type="fixed_large")
    yield case("ddim", 7, set_alpha_to_one=False)
    yield case("pndm", 7, set_alpha_to_one=True)
    for steps in (4, 8):
        for prediction in ("epsilon", "v_prediction"):
            yield case("pndm", steps, skip_prk_steps=False, prediction_type=prediction)
    yield case("lcm", 6, original_inference_steps=100, timestep_scaling=5.0)
    for sampler in ("euler", "dpmpp_2m", "dpmpp_2m_sde", "unipc"):
        yield case(sampler, 6, final_sigmas_type="sigma_min")
    yield case("dpmpp_2m", 6, final_sigmas_type="sigma_min", use_karras=True, sigma_schedule="karras")
    for sampler in ("dpmpp_2m", "dpmpp_2m_sde"):
        for steps in (6, 16):
            yield case(sampler, steps, solver_order=3)
            yield case(sampler, steps, solver_order=1)
            yield case(sampler, steps, solver_type="heun")
            yield case(sampler, steps, lower_order_final=False)
        yield case(sampler, 16, euler_at_final=True, final_sigmas_type="sigma_min")
    for steps in (3, 6, 16):
        yield case("unipc", steps, solver_order=3)
        yield case("unipc", steps, solver_order=1)
        # B1(h) has no finite value at a last level of 0.
        yield case("unipc", steps, solver_type="bh1", final_sigmas_type="sigma_min")
        yield case("unipc", steps, solver_type="bh1", solver_order=3, final_sigmas_type="sigma_min")
    yield case("unipc", 6, predict_x0=False, final_sigmas_type="sigma_min")
    yield case("unipc", 6, predict_x0=False, final_sigmas_type="sigma_min", solver_order=3, prediction_type="v_prediction")
    yield case("unipc", 6, predict_x0=False, final_sigmas_type="sigma_min", solver_type="bh1")
    yield case("unipc", 6, lower_order_final=False, final_sigmas_type="sigma_min")


def scheduler(spec):
    kind, extra = SAMPLERS[spec["sampler"]]
    more = {key: value for key, value in spec["more"].items() if key not in ("start", "eta", "sigma_schedule", "use_karras")}
    levels = spec["more"].get("sigma_schedule", "")
    if levels in ("karras", "exponential"):
        more[f"use_{levels}_sigmas"] = True
    made = kind(**{**SD1, **extra, **more})
    steps = spec["steps"]
    if levels.startswith("ays"):
        table = AysSchedules["StableDiffusionTimesteps" if levels == "ays_sd" else "StableDiffusionXLTimesteps"]
        made.set_timesteps(timesteps=table)
    else:
        made.set_timesteps(steps)
    return made


def config(spec):
    """The scheduler's configuration, as a model's folder would hold it."""
    made = scheduler(spec)
    return json.loads(made.to_json_string().replace("-Infinity", "null"))


def run(spec):
    """Timesteps and noise levels as diffusers has them, one a call, and latents after each call."""
    made, start = scheduler(spec), spec["more"].get("start", 0)
    use_draws(start)
    skipped = start * made.order
    timesteps = made.timesteps[skipped:]
    clean = torch.linspace(-1, 1, 8).reshape(SHAPE)
    if hasattr(made, "set_begin_index"):
        # Without it the first of two equal timesteps would be skipped.
        made.set_begin_index(skipped)
    if start:
        latents = made.add_noise(clean, draw(0), timesteps[:1])
    else:
        latents = draw(0) * made.init_noise_sigma
    out = [latents]
    more = {key: spec["more"][key] for key in ("eta",) if key in spec["more"]}
    for t in timesteps:
        prediction = network(made.scale_model_input(latents, t), t)
        latents = made.step(prediction, t, latents, **more).prev_sample
        out.append(latents)
    assert all(torch.isfinite(values).all() for values in out), spec["name"]
    tensors = dict(
        latents=torch.stack(out).reshape(len(out), -1).to(torch.float32).contiguous(),
        timesteps=made.timesteps.to(torch.float64).contiguous(),
    )
    if hasattr(made, "sigmas"):
        tensors["sigmas"] = made.sigmas.contiguous()
    return tensors


def grids():
    """SHA-256 over the timesteps (float64, lowest byte first) for many numbers of steps."""
    for sampler in SAMPLERS:
        for spacing in ["leading", "trailing", "linspace"]:
            for steps in COUNTS:
                if sampler == "lcm" and (steps > 50 or spacing != "leading"):
                    continue
                made = scheduler(dict(sampler=sampler, steps=steps, more=dict(timestep_spacing=spacing)))
                values = made.timesteps.numpy().astype("<f8")
                if sampler == "pndm" and steps > 1:
                    values = np.delete(values, 1)
                if made.order == 2:
                    values = np.concatenate([values[:1], values[1:].reshape(-1, 2)[:, -1]])
                # numpy's arange can give one timestep too many.
                values = values[:steps]
                yield dict(sampler=sampler, spacing=spacing, steps=steps, sha256=hashlib.sha256(values.tobytes()).hexdigest())


def rescales():
    """Guidance rescale of diffusers."""
    for index, amount in enumerate((0.0, 0.3, 0.7, 1.0)):
        values = torch.from_numpy(noise.standard_normal(index, 0, (2, 1, 4, 5, 3)))
        prompted, guided = values[0], values[0] * 2.5 + values[1] * 1.5 + 0.1
        rescaled = rescale_noise_cfg(guided, prompted, guidance_rescale=amount)
        yield dict(amount=amount), dict(prompted=prompted, guided=guided, rescaled=rescaled)


def images():
    """Each sampler once with each of two small models through diffusers' own pipeline, in the form of `cases.json`."""
    for model, guidance, prompt, negative in (
        ("tiny-sd1", 4.0, "an astronaut on the moon", "lazy dog"), ("tiny-sd2", 1.0, "wow! red apple", "")
    ):
        pipe = StableDiffusionPipeline.from_pretrained(
            MODELS / model, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.set_progress_bar_config(disable=True)
        trained = pipe.scheduler.config
        # Some once more with a generator of PyTorch's, which goes on from the first latents to each step.
        torch_too = ["euler_ancestral", "dpmpp_2m_sde", "lcm"] if model == "tiny-sd1" else []
        for sampler, source in [*((name, "philox") for name in SAMPLERS), *((name, "torch-cpu") for name in torch_too)]:
            kind, extra = SAMPLERS[sampler]
            # What the engine reads from a configuration that does not say.
            same = dict(set_alpha_to_one=trained.get("set_alpha_to_one", True))
            pipe.scheduler = kind.from_config(trained, **same, **extra)
            use_draws(0) if source == "philox" else use_torch()
            shape = (1, pipe.unet.config.in_channels, 24 // pipe.vae_scale_factor, 40 // pipe.vae_scale_factor)
            at_end = {}
            image = pipe(
                prompt=prompt, negative_prompt=negative, width=40, height=24, num_inference_steps=5,
                guidance_scale=guidance, output_type="np",
                latents=torch.from_numpy(noise.standard_normal(SEED, 0, shape)) if source == "philox" else None,
                generator=torch.Generator("cpu").manual_seed(SEED),
                callback_on_step_end=lambda _pipe, _step, _t, values: at_end.update(values) or values,
            ).images[0]
            name = f"{model}/{sampler}-5-{guidance:g}" + ("" if source == "philox" else f"-{source}")
            spec = dict(
                name=name, noise=source, model=model, sampler=sampler, steps=5, guidance=guidance, seed=str(SEED), prompt=prompt,
                negative_prompt=negative, width=40, height=24, latents_after=[5],
            )
            rgb = torch.from_numpy((image * 255).round().astype("uint8"))
            yield spec, {"latents_after_5": at_end["latents"].clone(), "rgb": rgb}


def draw_images():
    specs, tensors = [], {}
    for spec, values in images():
        key = spec["name"].split("/")[1]
        specs.append(spec)
        tensors.update({f"{key}/{name}": value.contiguous() for name, value in values.items()})
    save_file(tensors, GOLDEN / "sampler_images.safetensors")
    (GOLDEN / "sampler_images.json").write_text(json.dumps(specs, indent=1) + "\n")


def main():
    noise.check()
    torch.set_grad_enabled(False)
    draw_images()
    specs, tensors = [], {}
    for index, spec in enumerate(cases()):
        tensors.update({f"{index}/{name}": value for name, value in run(spec).items()})
        specs.append(dict(spec, config=config(spec)))
    amounts = []
    for index, (amount, values) in enumerate(rescales()):
        amounts.append(amount["amount"])
        tensors.update({f"rescale/{index}/{name}": value.contiguous() for name, value in values.items()})
    save_file(tensors, GOLDEN / "samplers.safetensors")
    lines = lambda values: "[\n" + ",\n".join(json.dumps(value) for value in values) + "\n]"
    text = f'{{"seed": "{SEED}",\n"cases": {lines(specs)},\n"grids": {lines(grids())},\n"rescale": {json.dumps(amounts)}}}\n'
    (GOLDEN / "samplers.json").write_text(text)


if __name__ == "__main__":
    main()
