"""A drawn car with a number plate, for whatever hides plates."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def drawn_plate(text: str = "KA 1234 BX", size: tuple[int, int] = (480, 320), width: int = 104) -> np.ndarray:
    """Draw a grey car's front with a number plate in its middle, low down."""
    picture = Image.new("RGB", size, (96, 110, 96))
    draw = ImageDraw.Draw(picture)
    x, y, height = size[0] // 2, size[1] * 2 // 3, round(width / 4.6)
    draw.rounded_rectangle((x - 130, y - 110, x + 130, y + 50), 20, fill=(70, 74, 88))
    draw.rectangle((x - 100, y - 40, x + 100, y - 20), fill=(25, 25, 28))
    box = (x - width // 2, y - height // 2, x + width // 2, y + height // 2)
    draw.rectangle(box, fill=(242, 242, 238), outline=(20, 20, 20))
    draw.rectangle((box[0], box[1], box[0] + height // 2, box[3]), fill=(30, 60, 150))
    draw.text((x + height // 4, y), text, (20, 20, 25), ImageFont.load_default(height * 0.8), anchor="mm")
    return np.asarray(picture)
