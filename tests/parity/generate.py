"""Runs diffusers in float32 on the CPU and writes what Seedfarm's engine is compared with.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python generate.py

Writes `models/` (two random pipelines), and into `golden/`: `cases.json`, `tokens.json` and one
`.safetensors` a model with text embeddings, the network's first prediction, latents after some steps and
the final picture of each case.
"""

import json
import pathlib
import shutil

import diffusers.schedulers.scheduling_euler_ancestral_discrete as ancestral
import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

import autoencoders
import controlnet
import lora
import noise
import pictures
import prompts
import samplers
import sdxl
import single_file
import tiny_models
import torch_noise

HERE = pathlib.Path(__file__).parent
GOLDEN, MODELS = HERE / "golden", HERE / "models"
EMOJI = HERE.parent.parent / "models" / "emoji-starter"
SAMPLERS = {
    "ddim": (DDIMScheduler, dict(clip_sample=False)),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
}
PROMPTS = [
    "",
    "cat face on a blue background",
    "Doesn't  the ASTRONAUT'S horse\n\tcost 1234 euros?!",
    "wow! and ! and !!! <|endoftext|> after the end",
    "naïve Ünïcödé 猫 🐈 e\u0301",
    "a photograph of an astronaut riding a horse on the moon, red apple, yellow background, lazy dog, brown fox",
]


def case(model, sampler, steps, guidance, seed, prompt, negative="", width=64, height=64):
    name = f"{model}/{sampler}-{steps}-{guidance:g}"
    return dict(
        name=name, model=model, sampler=sampler, steps=steps, guidance=guidance, seed=str(seed), prompt=prompt,
        negative_prompt=negative, width=width, height=height, latents_after=sorted({1, 2, steps // 2, steps}),
    )


def cases():
    emoji = ("emoji-starter", "cat face on a blue background", "")
    for model, prompt, negative in [emoji]:
        for sampler in SAMPLERS:
            for steps in (20, 7):
                for guidance in (3.0, 1.0):
                    yield case(model, sampler, steps, guidance, 2**40 + 7, prompt, negative)
    for sampler in SAMPLERS:
        # Latents of 9 x 7: odd at every level of the network.
        yield case("tiny-sd1", sampler, 7, 5.0, 3, "an astronaut on the moon", "lazy dog", 56, 72)
        yield case("tiny-sd1", sampler, 20, 1.0, 4, PROMPTS[5], "", 56, 72)
        yield case("tiny-sd2", sampler, 7, 7.5, 5, "wow! red apple", "it's the lazy dog", 64, 40)
        yield case("tiny-sd2", sampler, 20, 1.0, 6, "the quick brown fox", "", 64, 40)


def save_tiny_models():
    for name, build in tiny_models.MODELS.items():
        pipe, dtype = build()
        shutil.rmtree(MODELS / name, ignore_errors=True)
        pipe.to(dtype).save_pretrained(MODELS / name, safe_serialization=True)
        if name == "tiny-sd2":
            tiny_models.write_old_tokenizer(MODELS / name / "tokenizer", pipe.tokenizer.pad_token, pipe.tokenizer.model_max_length)


def load(model):
    folder = EMOJI if model == "emoji-starter" else MODELS / model
    extra = {}
    if model == "emoji-starter":
        # Its tokenizer is one file; window and padding are those it was trained with.
        extra["tokenizer"] = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer/tokenizer.json"), model_max_length=24, bos_token="<|startoftext|>",
            eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token="<|endoftext|>",
        )
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None, requires_safety_checker=False, **extra
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tokenize(pipe, prompt):
    return pipe.tokenizer(
        prompt, padding="max_length", max_length=pipe.tokenizer.model_max_length, truncation=True
    ).input_ids


def run(pipe, spec):
    """The tensors of one case."""
    kind, extra = SAMPLERS[spec["sampler"]]
    scheduler = kind.from_config(pipe.trained_scheduler.config, **extra)
    pipe.scheduler = scheduler
    factor = pipe.vae_scale_factor
    shape = (1, pipe.unet.config.in_channels, spec["height"] // factor, spec["width"] // factor)
    seed = int(spec["seed"])
    draws = iter(range(1, 10_000))
    ancestral.randn_tensor = lambda *_, **__: torch.from_numpy(noise.standard_normal(seed, next(draws), shape))

    first, latents = [], {}

    def keep_first(_module, _inputs, output):
        if not first:
            first.append(output[0].clone())

    hook = pipe.unet.register_forward_hook(keep_first)

    def after_step(_pipe, step, _timestep, values):
        latents[step + 1] = values["latents"].clone()
        return values

    image = pipe(
        prompt=spec["prompt"], negative_prompt=spec["negative_prompt"], width=spec["width"], height=spec["height"],
        num_inference_steps=spec["steps"], guidance_scale=spec["guidance"], output_type="np",
        latents=torch.from_numpy(noise.standard_normal(seed, 0, shape)), callback_on_step_end=after_step,
    ).images[0]
    hook.remove()
    out = {"first_prediction": first[0], "rgb": torch.from_numpy((image * 255).round().astype("uint8"))}
    out.update({f"latents_after_{step}": latents[step] for step in spec["latents_after"]})
    return out


def main():
    noise.check()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    save_tiny_models()
    specs = list(cases())
    tokens = {}
    for model in ["emoji-starter", *tiny_models.MODELS]:
        pipe = load(model)
        pipe.trained_scheduler = pipe.scheduler
        tensors = {}
        tokens[model] = {prompt: tokenize(pipe, prompt) for prompt in PROMPTS}
        for index, prompt in enumerate(PROMPTS):
            ids = torch.tensor([tokens[model][prompt]])
            tensors[f"text/{index}"] = pipe.text_encoder(ids).last_hidden_state
        for spec in (spec for spec in specs if spec["model"] == model):
            key = spec["name"].split("/")[1]
            tensors.update({f"{key}/{name}": value.contiguous() for name, value in run(pipe, spec).items()})
            print(spec["name"])
        save_file(tensors, GOLDEN / f"{model}.safetensors")
    write = lambda name, value: (GOLDEN / name).write_text(json.dumps(value, indent=1) + "\n")
    write("cases.json", specs)
    write("tokens.json", dict(prompts=PROMPTS, ids={m: [t[p] for p in PROMPTS] for m, t in tokens.items()}))
    autoencoders.main()
    single_file.main()
    controlnet.main(MODELS, GOLDEN, case, run, *sdxl.main(MODELS, GOLDEN, case, run))
    prompts.main()
    lora.main()
    samplers.main()
    torch_noise.main()
    pictures.main(MODELS, GOLDEN)


if __name__ == "__main__":
    main()
