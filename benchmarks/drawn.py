"""Photos that need no camera: a drawn car and pure noise, as JPEG bytes.

The drawing stands in where no real photograph may lie: in `make demo` without a photo and in the speed benchmarks. It
is a cartoon that no network was trained on, so what is answered for it says nothing about accuracy. Noise is the
hardest JPEG to decode; real photos lie between the two.
"""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SKY, ROAD, BODY, GLASS, TYRE, RIM, LAMP = "#bcd3ea", "#8a8a86", "#b3202a", "#24303c", "#17181a", "#c9ccd1", "#f6e7a1"


def draw_car(width: int = 800, height: int = 600, *, left: float = 0.1, right: float = 0.9) -> Image.Image:
    """Draw a hatchback from its left side, between the shares `left` and `right` of the width."""
    image = Image.new("RGB", (width, height), SKY)
    canvas = ImageDraw.Draw(image)
    canvas.rectangle([0, height * 0.66, width, height], fill=ROAD)
    span, floor = (right - left) * width, height * 0.74

    def at(x: float, y: float) -> tuple[float, float]:
        """Place a point given in lengths of the car, y upwards from the floor."""
        return left * width + x * span, floor - y * span

    sill = [(0.0, 0.08), (0.0, 0.2), (0.05, 0.24), (0.24, 0.27)]
    roof = [(0.36, 0.4), (0.74, 0.41), (0.93, 0.26), (1.0, 0.24), (1.0, 0.08)]
    canvas.polygon([at(*point) for point in sill + roof], fill=BODY, outline=TYRE)
    for window in (
        [(0.29, 0.27), (0.38, 0.38), (0.54, 0.38), (0.54, 0.27)],
        [(0.56, 0.27), (0.56, 0.38), (0.72, 0.38), (0.86, 0.27)],
    ):
        canvas.polygon([at(*point) for point in window], fill=GLASS)
    canvas.line([at(0.55, 0.38), at(0.55, 0.1)], fill=TYRE, width=max(1, width // 400))
    canvas.polygon([at(*point) for point in ((0.005, 0.19), (0.06, 0.225), (0.09, 0.2), (0.01, 0.16))], fill=LAMP)
    for centre in (0.2, 0.8):
        for radius, colour in ((0.095, TYRE), (0.06, RIM)):
            canvas.ellipse([at(centre - radius, 0.08 + radius), at(centre + radius, 0.08 - radius)], fill=colour)
    return image


def draw_noise(width: int = 800, height: int = 600, *, seed: int = 0) -> Image.Image:
    """Draw smooth noise over the car, so that no two photos are alike."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    grain = random.integers(0, 24, (height, width, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint16)
    noise = Image.fromarray(np.minimum(smooth + grain, 255).astype(np.uint8))
    return Image.blend(draw_car(width, height), noise, 0.35)


def jpeg(image: Image.Image, *, quality: int = 88) -> bytes:
    """Encode an image as JPEG."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(jpeg(draw_car()))
    print(f"No PHOTO named: drew a cartoon of a car into {target}. Its answer means nothing; try a photo of yours.")
