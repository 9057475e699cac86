"""Photos that need no camera: noise over a drawn car, as JPEG bytes, for the benchmarks of speed.

The car is the showroom's; no network was trained on it, so that what is answered for it says nothing about accuracy.
Noise is the hardest JPEG to decode; real photos are easier.
"""

from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from carspotter.sources.showroom import pictures


@cache
def _car(width: int, height: int) -> Image.Image:
    data, _ = next(pictures())
    return Image.open(BytesIO(data)).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def draw_noise(width: int = 800, height: int = 600, *, seed: int = 0) -> Image.Image:
    """Draw smooth noise over the car, so that no two photos are alike."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    grain = random.integers(0, 24, (height, width, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint16)
    noise = Image.fromarray(np.minimum(smooth + grain, 255).astype(np.uint8))
    return Image.blend(_car(width, height), noise, 0.2)  # with more, the finder sees no car


def jpeg(image: Image.Image, *, quality: int = 88) -> bytes:
    """Encode an image as JPEG."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
