"""A small random pipeline of Stable Diffusion XL, and what diffusers makes of it.

Called by `generate.py`. Writes `models/tiny-sdxl`, `golden/tiny-sdxl.safetensors` and `golden/sdxl.json`: text
embeddings with layers left out, pooled texts, a call of the network on samples at different timesteps, and whole
images in the form of `cases.json`.
"""

import json
import shutil

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import noise
import tiny_models
from tiny_models import BEGIN, END

NAME = "tiny-sdxl"
WINDOW = 15
PROMPTS = ["", "a red apple on the moon", "wow! the lazy dog doesn't jump over an astronaut riding a horse, it's 2026!"]
SKIPS = (0, 1, 2)


def text_encoder(kind, vocab, pad, generator, **sizes):
    """`eos_token_id` 2, as the published second encoder has it, stands for the largest id."""
    end = 2 if kind is CLIPTextModelWithProjection else vocab[END]
    config = CLIPTextConfig(
        vocab_size=len(vocab), bos_token_id=vocab[BEGIN], eos_token_id=end, pad_token_id=vocab[pad],
        max_position_embeddings=WINDOW, **sizes,
    )
    model = kind(config)
    tiny_models.roughen(model, generator)
    return model


def build():
    """Heads, depths and widths that differ from block to block; the first block without attention."""
    vocab, merges = tiny_models.vocabulary()
    torch.manual_seed(11)
    generator = torch.Generator().manual_seed(11)
    tokenizer = lambda pad: CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=WINDOW)
    first = text_encoder(
        CLIPTextModel, vocab, END, generator, hidden_size=12, intermediate_size=20, num_hidden_layers=3,
        num_attention_heads=2, hidden_act="quick_gelu",
    )
    second = text_encoder(
        CLIPTextModelWithProjection, vocab, "!", generator, hidden_size=16, intermediate_size=24, num_hidden_layers=4,
        num_attention_heads=4, hidden_act="gelu", projection_dim=10,
    )
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 12, 16), norm_num_groups=4,
        layers_per_block=1, attention_head_dim=(2, 3, 4), transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=28, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=6, projection_class_embeddings_input_dim=46,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderKL(**tiny_models.vae((4, 4, 8, 8), 4, 2), scaling_factor=0.13025)
    for module in (unet, vae):
        tiny_models.roughen(module, generator)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    return StableDiffusionXLPipeline(
        vae=vae, text_encoder=first, text_encoder_2=second, tokenizer=tokenizer(END), tokenizer_2=tokenizer("!"),
        unet=unet, scheduler=scheduler, add_watermarker=False,
    )


def texts(pipe):
    """What the pipeline gives of each prompt, with layers left out and without."""
    tensors = {}
    for index, prompt in enumerate(PROMPTS):
        for skip in SKIPS:
            hidden, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False, clip_skip=skip)
            tensors[f"text/{index}/skip_{skip}"] = hidden
        tensors[f"text/{index}/pooled"] = pooled
    return tensors


def mixed_call(pipe, tensors):
    """One call on three samples, each at its own timestep and of its own size."""
    latents = torch.from_numpy(noise.standard_normal(21, 0, (3, 4, 9, 7)))
    timesteps = [999.0, 37.5, 1.0]
    time_ids = [[72, 56, 0, 0, 72, 56], [1024, 768, 13, 5, 72, 56], [64, 64, 0, 8, 512, 512]]
    predicted = pipe.unet(
        latents, torch.tensor(timesteps), torch.cat([tensors[f"text/{index}/skip_0"] for index in range(3)]),
        added_cond_kwargs=dict(
            text_embeds=torch.cat([tensors[f"text/{index}/pooled"] for index in range(3)]),
            time_ids=torch.tensor(time_ids, dtype=torch.float32),
        ),
    ).sample
    return dict(seed="21", timesteps=timesteps, time_ids=time_ids), predicted


def cases(case):
    yield case(NAME, "euler", 4, 5.0, 12, PROMPTS[1], "", 56, 72)
    yield case(NAME, "euler", 7, 1.0, 13, PROMPTS[2], "", 40, 64)
    yield case(NAME, "ddim", 5, 6.5, 14, PROMPTS[1], "lazy dog", 64, 40)


def main(models, golden, case, run):
    """`case` and `run` are those of `generate.py`."""
    folder = models / NAME
    shutil.rmtree(folder, ignore_errors=True)
    build().to(torch.float16).save_pretrained(folder, safe_serialization=True)
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.trained_scheduler = pipe.scheduler
    tensors = texts(pipe)
    call, tensors["mixed/prediction"] = mixed_call(pipe, tensors)
    specs = list(cases(case))
    for spec in specs:
        # No negative prompt at all is what an empty one means.
        results = run(pipe, dict(spec, negative_prompt=spec["negative_prompt"] or None))
        tensors.update({f"{spec['name'].split('/')[1]}/{name}": value for name, value in results.items()})
        print(spec["name"])
    save_file({name: value.contiguous() for name, value in tensors.items()}, golden / f"{NAME}.safetensors")
    ids = lambda tokenizer, prompt: tokenizer(
        prompt, padding="max_length", max_length=WINDOW, truncation=True
    ).input_ids
    tokens = [[ids(tokenizer, prompt) for tokenizer in (pipe.tokenizer, pipe.tokenizer_2)] for prompt in PROMPTS]
    written = dict(prompts=PROMPTS, tokens=tokens, skips=SKIPS, mixed=call, cases=specs)
    (golden / "sdxl.json").write_text(json.dumps(written, indent=1) + "\n")
    return pipe, tensors
