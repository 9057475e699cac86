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


def overlap(one, other):
    """Return the IoU of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = np.prod(np.maximum(sides, 0))
    return both / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - both)


def find(finder, image):
    """Return the kinds' probabilities and the vehicles, best first: box in pixels, score, sides' probabilities."""
    words, wanted = finder.words["preprocessing"], finder.words["calibration"]
    pixels, (left, top, width, height) = letterbox(image, words)
    seen = finder.run(pixels)
    kept = []
    for index in np.argsort(-seen["scores"], kind="stable"):
        box = seen["boxes"][index].astype(np.float64)
        if seen["scores"][index] < wanted["score"]:
            break
        if (box[2:] > box[:2]).all() and all(overlap(box, seen["boxes"][i]) <= wanted["iou"] for i in kept):
            kept.append(index)
    vehicles = []
    for index in kept:
        x1, y1, x2, y2 = seen["boxes"][index].astype(np.float64) * ([words["width"], words["height"]] * 2)
        corners = np.array([x1 - left, y1 - top, x2 - left, y2 - top])
        box = np.clip(corners * ([image.width / width, image.height / height] * 2), 0, [*image.size, *image.size])
        if min(box[2:] - box[:2]) >= 1:
            vehicles.append((box, float(seen["scores"][index]), seen["viewpoints"][index]))
    return seen["kind"], vehicles


def identify(identifier, image, box):
    """Return the probability of each class for the vehicle in a box."""
    words = identifier.words["preprocessing"]
    pad = (box[2:] - box[:2]) * words["pad"]
    area = np.clip([*(box[:2] - pad), *(box[2:] + pad)], 0, [*image.size, *image.size])
    crop = image.resize((words["width"], words["height"]), Image.Resampling.BILINEAR, box=tuple(area))
    logits = identifier.run(np.asarray(crop))["logits"].astype(np.float64)
    powers = np.exp((logits - logits.max()) / identifier.words["calibration"]["temperature"])
    return powers / powers.sum()


def name(taxon, level):
    """Write a class down to a level: "Audi TTS Coupe 2012"; the year's name leaves the generation out."""
    parts = [taxon["make"], taxon.get("model") if level != "make" else None]
    if level == "generation" or (level == "year" and taxon.get("year") is None):
        parts.append(taxon.get("generation"))
    elif level == "year":
        parts.append(taxon["year"])
    return " ".join(str(part) for part in parts if part is not None)


def sums(classes, probabilities, level):
    """Return the probability of each taxon of a level: that of all its classes together."""
    result = {}
    for taxon, probability in zip(classes, probabilities, strict=True):
        result[name(taxon, level)] = result.get(name(taxon, level), 0.0) + float(probability)
    return result


def answer(words, probabilities):
    """Walk from the make down, always to the likeliest child; the answer is the deepest level that is sure enough."""
    classes, thresholds = words["taxonomy"]["classes"], words["calibration"]["thresholds"]
    inside, said, result = list(range(len(classes))), None, None
    for level in LEVELS:
        children = sums([classes[i] for i in inside], [probabilities[i] for i in inside], level)
        best = max(children, key=children.get)
        inside = [i for i in inside if name(classes[i], level) == best]
        if best != said and children[best] >= thresholds[level]:
            result = {"level": level, "name": best, "probability": round(children[best], 4)}
        said = best
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
            probabilities = identify(identifier, image, box)
            makes = sums(identifier.words["taxonomy"]["classes"], probabilities, "make")
            said["makes"] = {make: round(makes[make], 4) for make in sorted(makes, key=makes.get)[:-4:-1]}
            said["answer"] = answer(identifier.words, probabilities)
    return said


if __name__ == "__main__":
    networks = (Network(HERE / "finder.litert"), Network(HERE / "identifier.litert"))
    print(json.dumps(recognize(sys.argv[1], *networks), ensure_ascii=False))
