"""Makes the golden files of this folder with Pillow 13.0.0 (PyPI: pillow): python make.py

They are what other programs write: the text chunks come from PngInfo.add_text, which A1111's
stable-diffusion-webui calls, and the pixels from Pillow's own encoder.
"""

import pathlib

from PIL import Image
from PIL.PngImagePlugin import PngInfo

HERE = pathlib.Path(__file__).parent
SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1234567890, Size: 512x512, Model hash: 6ce0161689"


def gradient(mode):
    image = Image.new("RGB", (5, 3))
    image.putdata([(50 * x, 80 * y, 7 * x * y) for y in range(3) for x in range(5)])
    return image.convert(mode)


def save(name, mode, texts, zip=False):
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value, zip=zip)
    gradient(mode).save(HERE / name, pnginfo=info)


latin = f"a café, photo\nNegative prompt: blurry, (dark:1.2)\n{SETTINGS}, Model: v1-5"
save("a1111.png", "RGB", {"parameters": latin})
save("a1111_unicode.png", "RGBA", {"parameters": f"りんご 🍎\n{SETTINGS}"})
save("comfyui_packed.png", "P", {"prompt": '{"3": {"class_type": "KSampler"}}', "workflow": "{}"}, zip=True)
save("grey.png", "L", {})

# Pixels that are seen through, and one bit a pixel.
veiled = gradient("RGBA")
veiled.putalpha(Image.linear_gradient("L").resize((5, 3)))
veiled.save(HERE / "transparent.png")
gradient("1").save(HERE / "one_bit.png")
