"""ControlNets and unusual networks: small random ones, and what diffusers makes of them.

Called by `generate.py`, after `sdxl.py`. Writes the pipelines `models/tiny-inpaint` with a network of nine input
channels and `models/tiny-distilled` with one that takes the guidance scale, the ControlNets `models/tiny-control` (for
`tiny-inpaint`) and `models/tiny-control-xl` (for `tiny-sdxl`), the network `models/unet-uneven`, `golden/networks.safetensors` and `golden/networks.json`.
"""

import json
import shutil

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    LatentConsistencyModelPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import noise
import tiny_models
from tiny_models import BEGIN, END

WINDOW = 11
TIMESTEPS = [999.0, 500.25, 3.0]
TIME_IDS = [[72, 56, 0, 0, 72, 56], [512, 640, 3, 7, 72, 56], [72, 56, 0, 0, 256, 256]]
GUIDANCE = [1.0, 7.5, 3.25]
PROMPTS = ["", "a red apple", "the lazy dog jumps over the moon"]
TWO_BLOCKS = dict(
    block_out_channels=(8, 12), norm_num_groups=4, layers_per_block=1, cross_attention_dim=10,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
)
UP = dict(up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))


def roughened(module, seed):
    tiny_models.roughen(module, torch.Generator().manual_seed(seed))
    return module


def pipeline(kind, unet, seed):
    vocab, merges = tiny_models.vocabulary()
    text = CLIPTextConfig(
        vocab_size=len(vocab), bos_token_id=vocab[BEGIN], eos_token_id=vocab[END], pad_token_id=vocab[END],
        max_position_embeddings=WINDOW, hidden_size=10, intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=2,
    )
    return kind(
        vae=roughened(AutoencoderKL(**tiny_models.vae((4, 4, 4, 8), 4, 2)), seed),
        text_encoder=roughened(CLIPTextModel(text), seed + 1),
        tokenizer=CLIPTokenizer(vocab=vocab, merges=merges, pad_token=END, model_max_length=WINDOW),
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
            set_alpha_to_one=False,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )


def inpaint():
    """Nine channels: the latents, the mask and the masked picture."""
    unet = UNet2DConditionModel(sample_size=8, in_channels=9, out_channels=4, attention_head_dim=2, **TWO_BLOCKS, **UP)
    return pipeline(StableDiffusionInpaintPipeline, roughened(unet, 33), 31)


def control():
    """Its last convolutions begin at zero and are moved away from it, so that each adds something."""
    return roughened(
        ControlNetModel(in_channels=4, attention_head_dim=2, conditioning_embedding_out_channels=(4, 6, 6, 8), **TWO_BLOCKS), 34
    )


def control_xl():
    """For `tiny-sdxl`, with a hint in blue, green, red and no attention in its own blocks but the middle's."""
    return roughened(
        ControlNetModel(
            block_out_channels=(8, 12, 16), norm_num_groups=4, layers_per_block=1, attention_head_dim=(2, 3, 4),
            transformer_layers_per_block=(1, 1, 2), cross_attention_dim=28, use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=6, projection_class_embeddings_input_dim=46,
            down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D"), mid_block_type="UNetMidBlock2D",
            conditioning_embedding_out_channels=(4, 4, 6, 6), controlnet_conditioning_channel_order="bgr",
        ),
        35,
    )


def distilled():
    """Takes the guidance scale as an input, and has no middle."""
    unet = UNet2DConditionModel(
        sample_size=8, attention_head_dim=2, time_cond_proj_dim=9, mid_block_type=None, freq_shift=1,
        flip_sin_to_cos=False, **TWO_BLOCKS, **UP,
    )
    return pipeline(StableDiffusionPipeline, roughened(unet, 36), 38)


def uneven():
    """Depths that differ from layer to layer and between the two ways, and a plain middle."""
    return roughened(
        UNet2DConditionModel(
            sample_size=8, in_channels=8, out_channels=4, block_out_channels=(8, 8, 12), norm_num_groups=4,
            layers_per_block=(2, 1, 2), attention_head_dim=(1, 2, 3), cross_attention_dim=10,
            transformer_layers_per_block=[0, [1], [2, 1]],
            reverse_transformer_layers_per_block=[[1, 0, 2], [1, 1], 1], mid_block_type="UNetMidBlock2D",
            use_linear_projection=True,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        37,
    )


NETWORKS = {
    "tiny-control": (control, ControlNetModel), "tiny-control-xl": (control_xl, ControlNetModel),
    "tiny-distilled": (distilled, StableDiffusionPipeline), "unet-uneven": (uneven, UNet2DConditionModel),
    "tiny-inpaint": (inpaint, StableDiffusionInpaintPipeline),
}


def normal(seed, *shape):
    return torch.from_numpy(noise.standard_normal(seed, 0, shape))


def hint(seed):
    """A picture of 0 to 1, in the size of the latents times eight."""
    return normal(seed, 1, 3, 72, 56).sigmoid()


def save(build, kind, folder):
    shutil.rmtree(folder, ignore_errors=True)
    build().to(torch.float16).save_pretrained(folder, safe_serialization=True)
    return kind.from_pretrained(folder, torch_dtype=torch.float32)


def residuals(network, name, picture, texts, scale, more):
    """One call on three samples: what is added, by its place."""
    down, mid = network(
        normal(41, 3, 4, 9, 7), torch.tensor(TIMESTEPS), texts, picture.expand(3, -1, -1, -1), conditioning_scale=scale,
        added_cond_kwargs=more, return_dict=False,
    )
    return {f"{name}/down_{index}": term for index, term in enumerate(down)} | {f"{name}/mid": mid}


def controlled(unet, latents, texts, results, names, more):
    """The network's prediction with the sum of what some ControlNets add."""
    terms = [[result for key, result in results.items() if key.startswith(f"{name}/")] for name in names]
    total = [sum(of_place[1:], of_place[0]) for of_place in zip(*terms)]
    return unet(
        latents, torch.tensor(TIMESTEPS), texts, added_cond_kwargs=more, down_block_additional_residuals=tuple(total[:-1]),
        mid_block_additional_residual=total[-1],
    ).sample


def skipped(encoder, ids, skip):
    """Layers left out at the end, then the final norm, as `StableDiffusionPipeline` does it with `clip_skip`. Its own code
    asks for `text_encoder.text_model`, which the pinned transformers no longer has."""
    states = encoder(ids, output_hidden_states=True).hidden_states
    return encoder.final_layer_norm(states[-(skip + 1)])


def inpainting(pipe, control):
    """Text embeddings with layers left out, and a call on samples at different timesteps."""
    encode = lambda prompt: torch.tensor(
        [pipe.tokenizer(prompt, padding="max_length", max_length=WINDOW, truncation=True).input_ids]
    )
    tensors = {}
    for index, prompt in enumerate(PROMPTS):
        for skip in (0, 1, 2, 3):
            tensors[f"inpaint/text/{index}/skip_{skip}"] = skipped(pipe.text_encoder, encode(prompt), skip)
    texts = torch.cat([tensors[f"inpaint/text/{index}/skip_0"] for index in range(3)])
    tensors["inpaint/prediction"] = pipe.unet(normal(42, 3, 9, 9, 7), torch.tensor(TIMESTEPS), texts).sample
    results = residuals(control, "control", hint(43), texts, 0.75, None)
    tensors |= results
    tensors["control/prediction"] = controlled(pipe.unet, normal(42, 3, 9, 9, 7), texts, results, ["control"], None)
    return tensors


def extra_large(pipe, control, xl):
    """The same for Stable Diffusion XL, with two ControlNets at once."""
    texts = torch.cat([xl[f"text/{index}/skip_0"] for index in range(3)])
    pooled = torch.cat([xl[f"text/{index}/pooled"] for index in range(3)])
    more = dict(text_embeds=pooled, time_ids=torch.tensor(TIME_IDS, dtype=torch.float32))
    one = residuals(control, "control_xl", hint(44), texts, 1.0, more)
    two = residuals(control, "control_xl_again", hint(45), texts, -0.5, more)
    both = controlled(pipe.unet, normal(46, 3, 4, 9, 7), texts, one | two, ["control_xl", "control_xl_again"], more)
    return one | {"control_xl/prediction_of_two": both}


def alone(loaded):
    texts = normal(47, 3, 5, 10)
    rows = LatentConsistencyModelPipeline.get_guidance_scale_embedding(
        None, torch.tensor([guidance - 1 for guidance in GUIDANCE]), embedding_dim=9
    )
    distilled = loaded["tiny-distilled"].unet(normal(48, 3, 4, 9, 7), torch.tensor(TIMESTEPS), texts, timestep_cond=rows).sample
    uneven = loaded["unet-uneven"](normal(49, 3, 8, 9, 7), torch.tensor(TIMESTEPS), texts).sample
    return {"distilled/guidance": rows, "distilled/prediction": distilled, "uneven/prediction": uneven}


def cases(case):
    yield case("tiny-distilled", "ddim", 4, 7.5, 51, PROMPTS[2], "a red apple", 56, 72)
    yield case("tiny-distilled", "euler", 3, 1.0, 52, PROMPTS[1], "", 40, 24)


def main(models, golden, case, run, xl_pipe, xl):
    """`case` and `run` are those of `generate.py`, `xl_pipe` and `xl` the pipeline and the tensors of `sdxl.py`."""
    torch.manual_seed(30)
    loaded = {name: save(build, kind, models / name) for name, (build, kind) in NETWORKS.items()}
    pipe = loaded["tiny-inpaint"]
    tensors = inpainting(pipe, loaded["tiny-control"]) | extra_large(xl_pipe, loaded["tiny-control-xl"], xl) | alone(loaded)
    specs = list(cases(case))
    for spec in specs:
        distilled_pipe = loaded["tiny-distilled"]
        distilled_pipe.trained_scheduler = getattr(distilled_pipe, "trained_scheduler", distilled_pipe.scheduler)
        tensors |= {f"{spec['name'].split('/')[1]}/{name}": value for name, value in run(distilled_pipe, spec).items()}
        print(spec["name"])
    save_file({name: value.contiguous() for name, value in tensors.items()}, golden / "networks.safetensors")
    tokens = [
        pipe.tokenizer(prompt, padding="max_length", max_length=WINDOW, truncation=True).input_ids for prompt in PROMPTS
    ]
    written = dict(prompts=PROMPTS, tokens=tokens, timesteps=TIMESTEPS, time_ids=TIME_IDS, guidance=GUIDANCE, cases=specs)
    (golden / "networks.json").write_text(json.dumps(written, indent=1) + "\n")
