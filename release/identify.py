"""Name the vehicle on a photo with the two .tflite files, ai-edge-litert, numpy and Pillow alone.

    python identify.py photo.jpg

It is written to be copied to another language: each function is one step that phone.md describes, and what it knows of
the networks it reads from the files themselves. It answers as `carspotter identify` does, for the largest vehicle.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

HERE = Path(__file__).parent
LEVELS = ("make", "model", "generation", "year")
EXTERIOR, DETAIL = 0, 2  # of the kinds: exterior, interior, detail, other
SIDES = ("front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left")
CERTAIN_BOX = 0.8  # a box with this score is identified on a detail, too
LEAST_SIDE = 48  # a vehicle of fewer pixels is too small to identify


class Network:
    """A .tflite file, opened: `words` is what it says of itself."""

    def __init__(self, folder):
        content = (Path(folder) / "model.tflite").read_bytes()
        model = schema.Model.GetRootAs(content)
        entries = [model.Metadata(i) for i in range(model.MetadataLength())]
        buffer = next(model.Buffers(entry.Buffer()) for entry in entries if entry.Name() == b"carspotter")
        self.words = json.loads(buffer.DataAsNumpy().tobytes())
        self.runner = Interpreter(model_content=content).get_signature_runner()

    def run(self, pixels):
        """Run one photo, uint8 (h, w, 3); return each output by name, without the batch."""
        outputs = self.runner(image=pixels[np.newaxis])
        return {name: values[0] for name, values in outputs.items()}


def load(path):
    """Decode a photo, turn it upright, as RGB, at half, a quarter or an eighth of its size where that is enough."""
    image = Image.open(path)
    factor = min(image.size) // 448
    step = next((step for step in (8, 4, 2) if factor >= step), 1)
    image.draft("RGB", (image.width // step, image.height // step))
    return ImageOps.exif_transpose(image).convert("RGB")


def letterbox(image, words):
    """Fit the whole photo into the finder's input, with grey bars; return pixels, and its left, top, width, height."""
    width, height = words["width"], words["height"]
    scale = min(width / image.width, height / image.height)
    inner = (round(image.width * scale), round(image.height * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas = Image.new("RGB", (width, height), (words["grey"],) * 3)
    canvas.paste(image.resize(inner, Image.Resampling.BILINEAR), (left, top))
    return np.asarray(canvas), (left, top, *inner)


def find(finder, image):
    """Return the kinds' probabilities and the vehicles, best first: box in pixels, score, sides' probabilities."""
    words = finder.words["preprocessing"]
    pixels, (left, top, width, height) = letterbox(image, words)
    seen = finder.run(pixels)
    vehicles = []
    for score, relative, sides in zip(seen["scores"], seen["boxes"], seen["viewpoints"], strict=True):
        if score < finder.words["calibration"]["score"] or score == 0:
            break
        x1, y1, x2, y2 = relative.astype(np.float64) * ([words["width"], words["height"]] * 2)
        corners = np.array([x1 - left, y1 - top, x2 - left, y2 - top])
        box = np.clip(corners * ([image.width / width, image.height / height] * 2), 0, [*image.size, *image.size])
        if min(box[2:] - box[:2]) >= 1:
            vehicles.append((box, float(score), sides))
    return seen["kind"], vehicles


def identify(identifier, image, box):
    """Return what the identifier says of the vehicle in a box: probabilities of each level and attribute."""
    words = identifier.words["preprocessing"]
    pad = (box[2:] - box[:2]) * words["pad"]
    area = np.clip([*(box[:2] - pad), *(box[2:] + pad)], 0, [*image.size, *image.size])
    crop = image.resize((words["width"], words["height"]), Image.Resampling.BILINEAR, box=tuple(area))
    return identifier.run(np.asarray(crop))


def is_car(words, said):
    """Say whether the crop shows one whole car, where the identifier knows."""
    if "subject" not in said:
        return True
    return said["subject"][words["attributes"]["subject"].index("car")] >= words["calibration"].get("subject", 0.5)


def answer(words, said):
    """Walk from the make down, always to the likeliest child; the answer is the deepest level that is sure enough."""
    result, above, name = None, None, None
    for level in LEVELS:
        names = words["names"][level]
        inside = [place for place in range(len(names)) if above is None or words["parents"][level][place] == above]
        best = max(inside, key=lambda place: said[level][place])
        # A name that repeats the one above says no more: its generation or year is not known.
        if names[best] != name and said[level][best] >= words["calibration"]["thresholds"][level]:
            result = {"level": level, "name": names[best], "probability": round(float(said[level][best]), 4)}
        above, name = best, names[best]
    return result


def recognize(photo, finder, identifier):
    """Return what is on a photo: how surely it shows a vehicle's outside, the largest vehicle's box, side and name."""
    image = load(photo)
    kinds, vehicles = find(finder, image)
    said = {"exterior": round(float(kinds[EXTERIOR]), 4), "box": None, "viewpoint": None, "makes": {}, "answer": None}
    if vehicles:
        box, score, sides = max(vehicles, key=lambda vehicle: np.prod(vehicle[0][2:] - vehicle[0][:2]))
        said |= {"box": np.round(box, 2).tolist(), "viewpoint": SIDES[int(np.argmax(sides))]}
        certain = score >= CERTAIN_BOX and int(np.argmax(kinds)) in (EXTERIOR, DETAIL)
        sure = kinds[EXTERIOR] >= finder.words["calibration"]["gate"] or certain
        if sure and min(box[2:] - box[:2]) >= LEAST_SIDE:
            words, found = identifier.words, identify(identifier, image, box)
            if is_car(words, found):
                best = np.argsort(-found["make"], kind="stable")[:3]
                said["makes"] = {words["names"]["make"][i]: round(float(found["make"][i]), 4) for i in best}
                said["answer"] = answer(words, found)
    return said


if __name__ == "__main__":
    networks = (Network(HERE / "finder.litert"), Network(HERE / "identifier.litert"))
    print(json.dumps(recognize(sys.argv[1], *networks), ensure_ascii=False))
