"""Whole pipelines of diffusers that start from pictures, fill them in or follow them, and the settings of text to
image that the other cases leave out. Their noise is PyTorch's own, drawn as the pipelines draw it.

Called by `generate.py` after the models are written. Writes `models/tiny-control-sd1`, a ControlNet for `tiny-sd1`,
`golden/pictures.json` and `golden/pictures.safetensors`.
"""

import json
import shutil

import diffusers.schedulers.scheduling_euler_ancestral_discrete as ancestral
import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from safetensors.torch import save_file

import tiny_models

SAMPLERS = {
    "ddim": (DDIMScheduler, dict(clip_sample=False)),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
}
PIPELINES = {
    ("sd", "text"): StableDiffusionPipeline,
    ("sd", "source"): StableDiffusionImg2ImgPipeline,
    ("sd", "mask"): StableDiffusionInpaintPipeline,
    ("sd", "control"): StableDiffusionControlNetPipeline,
    ("sd", "control source"): StableDiffusionControlNetImg2ImgPipeline,
    ("xl", "text"): StableDiffusionXLPipeline,
    ("xl", "source"): StableDiffusionXLImg2ImgPipeline,
    ("xl", "mask"): StableDiffusionXLInpaintPipeline,
    ("xl", "control"): StableDiffusionXLControlNetPipeline,
}
WIDTH, HEIGHT = 56, 72
BASE = dict(prompt="an astronaut on the moon", negative_prompt="lazy dog", seed=2**33 + 5, steps=7, guidance=5.0)


def case(name, model, sampler, **settings):
    return dict(BASE, name=name, model=model, sampler=sampler, **settings)


def cases():
    for sampler in SAMPLERS:
        yield case(f"source-{sampler}", "tiny-sd1", sampler, source="a", strength=0.6)
    yield case("source-whole", "tiny-sd1", "euler", source="a", strength=1.0, guidance=1.0)
    yield case("source-velocity", "tiny-sd2", "ddim", source="b", strength=0.5)
    for sampler in SAMPLERS:
        yield case(f"mask-{sampler}", "tiny-sd1", sampler, source="a", mask="m", strength=0.7)
    yield case("mask-whole", "tiny-sd1", "euler_ancestral", source="b", mask="m", strength=1.0)
    yield case("mask-nine", "tiny-inpaint", "euler", source="a", mask="m", strength=1.0)
    yield case("mask-nine-part", "tiny-inpaint", "ddim", source="a", mask="m", strength=0.6)
    yield case("control", "tiny-sd1", "euler", controls=[dict(net="tiny-control-sd1", image="b", scale=1.0, start=0.0, end=1.0)])
    two = [
        dict(net="tiny-control-sd1", image="a", scale=0.7, start=0.0, end=0.6),
        dict(net="tiny-control-sd1", image="b", scale=-0.4, start=0.25, end=1.0),
    ]
    yield case("controls", "tiny-sd1", "ddim", controls=two)
    yield case("control-source", "tiny-sd1", "euler_ancestral", source="a", strength=0.8, controls=two[:1])
    yield case("xl-text", "tiny-sdxl", "euler", negative_prompt="")
    yield case("xl-source", "tiny-sdxl", "euler", source="a", strength=0.6)
    yield case("xl-mask", "tiny-sdxl", "ddim", source="b", mask="m", strength=0.9)
    yield case("xl-control", "tiny-sdxl", "euler", controls=[dict(net="tiny-control-xl", image="a", scale=0.9, start=0.0, end=0.9)])
    yield case("rescale", "tiny-sd2", "ddim", guidance_rescale=0.7, steps=20)
    yield case("skip", "tiny-sd2", "euler_ancestral", clip_skip=1)
    yield case("xl-skip-rescale", "tiny-sdxl", "euler_ancestral", clip_skip=1, guidance_rescale=0.5)


def picture(name):
    """Smooth colours with some noise; the mask has greys on both sides of one half."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    if name == "m":
        return Image.fromarray(np.clip((x - 20) * 9 + y, 0, 255).astype("uint8"), "L").convert("RGB")
    turn = {"a": 0, "b": 2}[name]
    grain = np.random.default_rng(turn).integers(-20, 20, (HEIGHT, WIDTH, 3))
    planes = np.stack([x / WIDTH, y / HEIGHT, (x + y) / (WIDTH + HEIGHT)], -1) * 215 + 20
    return Image.fromarray((np.roll(planes, turn, -1) + grain).astype("uint8"), "RGB")


def save_control(models):
    unet = UNet2DConditionModel.from_pretrained(models / "tiny-sd1" / "unet", torch_dtype=torch.float32)
    torch.manual_seed(41)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 6, 6, 8))
    tiny_models.roughen(net, torch.Generator().manual_seed(41))
    shutil.rmtree(models / "tiny-control-sd1", ignore_errors=True)
    net.half().save_pretrained(models / "tiny-control-sd1")


def load(models, spec):
    family = "xl" if "xl" in spec["model"] else "sd"
    kind = "mask" if "mask" in spec else " ".join(key[:-1] if key == "controls" else key for key in ("controls", "source") if key in spec) or "text"
    extra = {} if family == "xl" else dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    if "controls" in spec:
        nets = [ControlNetModel.from_pretrained(models / control["net"], torch_dtype=torch.float32) for control in spec["controls"]]
        extra["controlnet"] = nets
    pipe = PIPELINES[family, kind].from_pretrained(models / spec["model"], torch_dtype=torch.float32, **extra)
    pipe.set_progress_bar_config(disable=True)
    if "clip_skip" in spec and family == "sd":
        # The pipeline looks for the final norm where transformers had it before version 5.
        object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    scheduler, options = SAMPLERS[spec["sampler"]]
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **options)
    return pipe


def arguments(spec):
    out = {}
    control = "image" if "source" not in spec else "control_image"
    if "source" in spec:
        out.update(image=picture(spec["source"]), strength=spec["strength"])
    if "mask" in spec:
        out.update(mask_image=picture(spec["mask"]).convert("L"), width=WIDTH, height=HEIGHT)
    if "controls" in spec:
        each = lambda key: [value[key] for value in spec["controls"]]
        out[control] = [picture(name) for name in each("image")]
        out.update(
            controlnet_conditioning_scale=each("scale"), control_guidance_start=each("start"), control_guidance_end=each("end"),
            width=WIDTH, height=HEIGHT,
        )
    if not {"source", "controls"} & set(spec):
        out.update(width=WIDTH, height=HEIGHT)
    for key in ("clip_skip", "guidance_rescale"):
        if key in spec:
            out[key] = spec[key]
    return out


def negative(pipe, spec):
    """Layers are left out for the negative prompt too, as in the web interface; diffusers leaves out none for it."""
    if "clip_skip" not in spec:
        return dict(negative_prompt=spec["negative_prompt"] or None)
    encoded = pipe.encode_prompt(
        prompt=spec["negative_prompt"], device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False,
        clip_skip=spec["clip_skip"],
    )
    if "xl" in spec["model"]:
        return dict(negative_prompt_embeds=encoded[0], negative_pooled_prompt_embeds=encoded[2])
    return dict(negative_prompt_embeds=encoded[0])


def run(models, spec):
    latents, pipe = [], load(models, spec)

    def after_step(_pipe, _step, _timestep, values):
        latents.append(values["latents"].clone())
        return values

    image = pipe(
        prompt=spec["prompt"], **negative(pipe, spec), num_inference_steps=spec["steps"],
        guidance_scale=spec["guidance"], generator=torch.Generator("cpu").manual_seed(spec["seed"]), output_type="np",
        callback_on_step_end=after_step, **arguments(spec),
    ).images[0]
    rgb = torch.from_numpy(np.ascontiguousarray((image * 255).round().astype("uint8")))
    return {"latents": latents[-1].contiguous(), "rgb": rgb}


def main(models, golden):
    save_control(models)
    # Other cases put Seedfarm's noise here.
    ancestral.randn_tensor = randn_tensor
    specs, tensors = list(cases()), {}
    for name in "abm":
        tensors[f"picture/{name}"] = torch.from_numpy(np.array(picture(name)))
    for spec in specs:
        tensors.update({f"{spec['name']}/{key}": value for key, value in run(models, spec).items()})
        spec.update(seed=str(spec["seed"]), width=WIDTH, height=HEIGHT)
        print("pictures", spec["name"])
    save_file(tensors, golden / "pictures.safetensors")
    (golden / "pictures.json").write_text(json.dumps(specs, indent=1) + "\n")


if __name__ == "__main__":
    import pathlib

    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    here = pathlib.Path(__file__).parent
    main(here / "models", here / "golden")
