"""Pictures of no thing, all different, and copies of one as the web makes them."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter


def picture(seed: int, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Draw soft shapes and fine grain, so that it has the frequencies and the sharpness of a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(coarse)
    for _ in range(25):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(10, size[0] // 3), rng.integers(10, size[1] // 3)
        draw.rectangle((x, y, x + w, y + h), fill=tuple(int(value) for value in rng.integers(0, 256, 3)))
    grain = rng.normal(0, 6, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    """Return a picture as a file of a format."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """Encode a picture as JPEG."""
    return encoded(image, quality=quality)


def copies(image: Image.Image) -> dict[str, bytes]:
    """Return near-duplicates of a picture by what was done to it."""
    width, height = image.size
    cut = (round(0.02 * width), round(0.02 * height), round(0.98 * width), round(0.98 * height))
    marked = image.copy()
    ImageDraw.Draw(marked).rectangle((0.72 * width, 0.93 * height, 0.98 * width, 0.98 * height), fill=(240, 240, 240))
    return {
        "compressed": jpeg(image, 40),
        "half": jpeg(image.resize((width // 2, height // 2))),
        "double": jpeg(image.resize((width * 2, height * 2))),
        "brighter": jpeg(ImageEnhance.Brightness(image).enhance(1.15)),
        "darker": jpeg(ImageEnhance.Brightness(image).enhance(0.8)),
        "cut": jpeg(image.crop(cut)),
        "marked": jpeg(marked),
    }


def blurred(image: Image.Image, share: float = 0.012) -> Image.Image:
    """Blur a picture by a share of its width."""
    return image.filter(ImageFilter.GaussianBlur(share * image.width))
