"""The page's modules in Node against the same steps in Python, on random inputs: resizing, boxes, levels, headers."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carspotter.crops import decode_side, shrunk
from carspotter.errors import ImageError
from carspotter.export.browser import PAGE, WEB
from carspotter.geometry import BoundingBox
from carspotter.headers import lacks_scans, orientation, sniff
from carspotter.pixels import DecodedPhoto, Preprocessing, decode, network_input
from carspotter.recognition.attributes import Attributes
from carspotter.recognition.finder import Finder
from carspotter.recognition.identifier import NO_CAR, UNKNOWN, Identifier
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.calibration import softmax
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy
from waiting import NEVER_S

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node to run the page's modules")

FLOATS = "const floats = (text) => new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer);"
PIXELS = """const pixels = ({w, h, d}) => ({width: w, height: h, data: new Uint8Array(Buffer.from(d, 'base64'))});
const told = ({width, height, data}) => ({w: width, h: height, d: Buffer.from(data).toString('base64')});"""


def node(imports: str, answer: str, cases: list[Any]) -> list[Any]:
    """Run `answer`, a function of a case, over the cases in one process of Node."""
    names, module = imports.split(" from ")
    place = (WEB if module == "known.js" else PAGE) / module
    script = f"""import {{{names}}} from {json.dumps(place.as_uri())}; {FLOATS} {PIXELS}
    let given = ''; for await (const part of process.stdin) given += part;
    console.log(JSON.stringify(JSON.parse(given).map({answer})));"""
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", script],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=NEVER_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: list[Any] = json.loads(done.stdout)
    return result


def packed(values: Any, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def sent(pixels: np.ndarray) -> dict[str, Any]:
    return {"w": pixels.shape[1], "h": pixels.shape[0], "d": packed(pixels, "u1")}


def received(told: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(told["d"]), np.uint8).reshape(told["h"], told["w"], 3)


def boxes_and_sizes(random: np.random.Generator) -> list[tuple[np.ndarray, Preprocessing, BoundingBox | None]]:
    """Draw photos with targets: letterbox and squash, whole and boxes over the edges, larger and smaller."""
    cases = []
    for index in range(40):
        height, width = (int(side) for side in random.integers(3, 300, 2))
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        sides = {"width": int(random.integers(8, 260)), "height": int(random.integers(8, 260))}
        target = Preprocessing(**sides, fit="squash" if index % 2 else "letterbox", pad=0.04)
        x, y = np.sort(random.uniform(-5, width + 5, 2)), np.sort(random.uniform(-5, height + 5, 2))
        box = BoundingBox(x[0], y[0], x[1], y[1])
        inside = box.clip(width, height)
        is_whole = index % 4 == 0 or min(inside.width, inside.height) < 2
        cases.append((pixels, target, None if is_whole else box))
    return cases


def test_a_network_sees_the_same_bytes_as_on_the_server() -> None:
    cases = boxes_and_sizes(np.random.default_rng(0))
    given = [{**sent(photo), "to": to.to_dict(), "box": box and box.to_list()} for photo, to, box in cases]
    answers = node("networkInput from resize.js", "(c) => told(networkInput(pixels(c), c.to, c.box))", given)
    for (photo, to, box), told in zip(cases, answers, strict=True):
        np.testing.assert_array_equal(received(told), network_input(photo, to, box), err_msg=f"{to} {box}")


def test_large_photos_are_shrunk_to_the_same_bytes() -> None:
    random = np.random.default_rng(1)
    networks = Preprocessing(width=64, height=48), Preprocessing(width=56, height=56)
    side = decode_side(networks[1], networks[0])
    photos = [random.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in ((1255, 1125), (150, 5000), (600, 500))]
    want = [shrunk(DecodedPhoto(pixels=one, width=one.shape[1], height=one.shape[0]), side) for one in photos]
    asked = """({side, ...c}) => { const photo = shrunk({pixels: pixels(c), width: c.w, height: c.h, scale: 1}, side);
    const least = leastSide({width: 64, height: 48}, {width: 56, height: 56});
    return {...told(photo.pixels), scale: photo.scale, least}; }"""
    cases = [{**sent(photo), "side": side} for photo in photos]
    for told, small in zip(node("shrunk, leastSide from recognizer.js", asked, cases), want, strict=True):
        assert (told["scale"], told["least"]) == (small.scale, side)
        np.testing.assert_array_equal(received(told), small.pixels)
    assert [one.scale < 1 for one in want] == [True, True, False]


def test_the_same_places_are_told(bundles: dict[str, Path]) -> None:
    random = np.random.default_rng(2)
    bundle = ModelBundle.load(bundles["finder"])
    size = bundle.preprocessing
    cases, want = [], []
    for index in range(30):
        corners = random.uniform(-0.1, 1.1, (50, 2, 2)).astype(np.float32)
        boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
        boxes[random.integers(0, 50, 4)] = [[np.nan, 0, 1, 1], [0.5, 0, 0.4, 1], [0, 0, np.inf, 1], [0, 0, 1e30, 1]]
        scores = np.sort(np.round(random.uniform(0, 1, 50), 2).astype(np.float32))[::-1].copy()
        scores[40:] = 0  # empty places
        least = float(scores[index]) if index else 0.0  # a score at the threshold counts
        sides = softmax(random.normal(0, 2, (50, 8))).astype(np.float32)
        outputs = {"kind": np.float32([0.6, 0.2, 0.1, 0.1]), "scores": scores, "boxes": boxes, "viewpoints": sides}
        finder = Finder(replace(bundle, calibration={"score": least}), None)  # type: ignore[arg-type]  # never run
        width, height = (int(side) for side in random.integers(40, 2000, 2))
        want.append(finder._finding(outputs, np.zeros((height, width, 3), np.uint8)))
        given = {name: packed(values, "<f4") for name, values in outputs.items()}
        cases.append({"outputs": given, "size": [width, height], "preprocessing": size.to_dict(), "least": least})
    asked = """({outputs, size, preprocessing, least}) => { const seen = Object.fromEntries(
    Object.entries(outputs).map(([name, values]) => [name, floats(values)]));
    return finding(seen, size, {preprocessing, calibration: {score: least}}); }"""
    for told, said in zip(node("finding from finder.js", asked, cases), want, strict=True):
        assert [one["score"] for one in told["detections"]] == [one.score for one in said.detections]
        assert [one["viewpoint"]["name"] for one in told["detections"]] == [d.viewpoint.name for d in said.detections]
        for one, detection in zip(told["detections"], said.detections, strict=True):
            assert one["box"] == pytest.approx(detection.box.to_list())
        assert told["kind"] == {"name": said.kind.name, "probability": pytest.approx(said.kind.probability)}
    assert max(len(said.detections) for said in want) == 20, "no more are told"


ODD = Taxonomy(
    classes=(
        Taxon(make="Rubin", model="Alpha", generation="2010-2014", year=2012),
        Taxon(make="Azur", model="Delta"),
        Taxon(make="Rubin", model="Alpha", generation="2015-2019", year=2016),
        Taxon(make="Azur"),
        Taxon(make="Rubin", model="Beta", generation="2010-2014"),
        Taxon(make="Smaragd", model="Gamma", year=2014),
    )
)


def test_levels_answers_and_words_are_the_same(bundles: dict[str, Path]) -> None:
    session = Recognizer.open(**bundles, engine="onnxruntime", threads=1).identifier._session  # type: ignore[arg-type]
    random = np.random.default_rng(3)
    cases, want = [], []
    for index in range(120):
        calibration: dict[str, Any] = {}
        if index % 3:
            calibration["thresholds"] = {level: float(random.uniform(0.2, 1)) for level in LEVELS}
        if index % 2:
            calibration["threshold"] = float(random.uniform(0.2, 0.9))
        if index % 5:
            calibration["subject"] = float(random.uniform(0, 0.5))
        plain = ModelBundle.load(bundles["identifier"])
        bundle = ModelBundle(
            task="identifier",
            name="odd",
            preprocessing=plain.preprocessing,
            card=plain.card,
            calibration=calibration,
            taxonomy=ODD,
            attributes={"subject": ("car", "other")},
        )
        probabilities = softmax(random.normal(0, 3, (1, len(ODD))))[0].astype(np.float32).astype(np.float64)
        subject = np.array([car := random.uniform(0.2, 1), 1 - car], np.float32)
        want.append(Identifier(bundle, session).judge(probabilities, np.zeros(1, np.float32), {"subject": subject}))
        outputs = {level: packed(ODD.sum_to(level, probabilities), "<f4") for level in LEVELS}
        known = {"calibration": calibration, "attributes": dict(bundle.attributes)}
        cases.append({"outputs": outputs | {"subject": packed(subject, "<f4")}, "bundle": known})
    asked = f"""({{outputs, bundle}}) => {{ const seen = Object.fromEntries(
    Object.entries(outputs).map(([name, values]) => [name, floats(values)]));
    return judge(seen, {json.dumps(ODD.outline())}, bundle); }}"""
    for told, said in zip(node("judge from identifier.js", asked, cases), want, strict=True):
        answer = said.answer
        assert told["undecided"] == said.undecided
        assert told["answer"] == (
            None
            if answer is None
            else {"level": answer.level, "name": answer.name, "probability": pytest.approx(answer.probability)}
        )
        for level in LEVELS:
            assert told["levels"][level] == [
                {"name": one.name, "probability": pytest.approx(one.probability)} for one in said.levels[level]
            ]
    assert {said.answer.level if said.answer else None for said in want} == {None, *LEVELS}
    assert 0 < sum(said.undecided == NO_CAR for said in want) < 60


def test_words_of_attributes_are_the_same(bundles: dict[str, Path]) -> None:
    random = np.random.default_rng(6)
    plain = ModelBundle.load(bundles["identifier"])
    cases, want = [], []
    for index in range(60):
        calibration = {"colour": float(random.uniform(0.2, 0.9))} if index % 3 else {}
        bundle = replace(plain, calibration=calibration)
        name = ("colour", "body", "doors")[index % 3 if index % 2 else 0]
        values = softmax(random.normal(0, 2, (1, len(bundle.attributes.get(name, "ab")))))[0].astype(np.float32)
        if index == 1:
            values[:] = [np.float32(calibration["colour"]), 0, 0, 0, 0][: len(values)]  # at the threshold counts
        want.append(Attributes(bundle).say(name, {name: values}))
        known = {"attributes": dict(bundle.attributes), "calibration": calibration}
        cases.append({"name": name, "values": packed(values, "<f4"), "bundle": known})
    asked = "(c) => likeliest(c.name, floats(c.values), c.bundle)"
    for told, said in zip(node("likeliest from identifier.js", asked, cases), want, strict=True):
        assert told == (said and {"name": said.name, "probability": pytest.approx(said.probability)})
    assert 10 < sum(said is None for said in want) < 50


@pytest.mark.parametrize("taxonomy", [ODD, Taxonomy((Taxon(make="smart"),))])
def test_what_is_known_is_counted_the_same(taxonomy: Taxonomy) -> None:
    (told,) = node("extent from known.js", "extent", [taxonomy.to_dict()["classes"]])
    assert told == taxonomy.extent()


def test_a_vehicle_with_too_little_evidence_is_refused() -> None:
    asked = """(evidence) => { const both = ["Rubin", "Azur"], above = [0, 1];
    const names = {make: both, model: both, generation: both, year: both};
    const outline = {names, parents: {model: above, generation: above, year: above}};
    const each = Float32Array.of(0.75, 0.25);
    const outputs = {make: each, model: each, generation: each, year: each, evidence: Float32Array.of(evidence)};
    const bundle = {calibration: {evidence: 1, thresholds: {make: 0.5}}, attributes: {}};
    const {answer, undecided} = judge(outputs, outline, bundle); return [answer, undecided]; }"""
    refused, answered = node("judge from identifier.js", asked, [0.9, 1.1])
    assert refused == [None, UNKNOWN]
    assert answered == [{"level": "make", "name": "Rubin", "probability": 0.75}, None]


def picture(form: str, turn: int | None, order: str = "little") -> bytes:
    exif = Image.Exif()
    exif.endian = "<" if order == "little" else ">"
    if turn is not None:
        exif[0x0112] = turn
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:8, :16], pixels[16:, 24:] = (250, 20, 20), (20, 20, 250)
    out = BytesIO()
    Image.fromarray(pixels).save(out, form, exif=exif, quality=95, lossless=True)
    return out.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_turns_as_on_the_server(form: str) -> None:
    files = [picture(form, turn, "big" if turn and turn % 2 else "little") for turn in (None, *range(10))]
    raw = [np.asarray(Image.open(BytesIO(data)).convert("RGB")) for data in files]
    asked = """(c) => { const given = new Uint8Array(Buffer.from(c.file, 'base64'));
    const {turn, bytes} = uprightBytes(given, c.form);
    return {turn, again: uprightBytes(bytes, c.form).turn, same: bytes.length === given.length}; }"""
    cases = [{"file": base64.b64encode(data).decode(), "form": form} for data in files]
    told = node("uprightBytes from headers.js", asked, cases)
    assert [one["turn"] for one in told] == [orientation(Image.open(BytesIO(data)).info.get("exif")) for data in files]
    assert all(one["again"] in (0, 1) and one["same"] for one in told)
    turns = [{**sent(photo), "turn": one["turn"]} for photo, one in zip(raw, told, strict=True)]
    upright = node("turned from decode.js", "({turn, ...c}) => told(turned(pixels(c), turn))", turns)
    for data, one in zip(files, upright, strict=True):
        np.testing.assert_array_equal(received(one), decode(data).pixels)


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_large_jpegs_are_averaged_to_nearly_what_the_server_decodes(step: int) -> None:
    small = np.random.default_rng(5).integers(0, 256, (19, 23, 3), dtype=np.uint8)
    photo = Image.fromarray(small).resize((237, 191), Image.Resampling.BICUBIC)  # edges within blocks
    out = BytesIO()
    photo.save(out, "JPEG", quality=90)
    want = decode(out.getvalue(), min_side=191 // step).pixels
    whole = np.asarray(Image.open(BytesIO(out.getvalue())).convert("RGBA"))
    asked = """({step, w, h, d, into: [height, width]}) => {
    const made = {width, height, data: new Uint8Array(height * width * 3)};
    average({width: w, height: h, data: Buffer.from(d, 'base64')}, step, made, 0); return told(made); }"""
    (told,) = node("average from decode.js", asked, [{**sent(whole), "step": step, "into": want.shape}])
    off = np.abs(received(told).astype(int) - want)
    assert off.mean() < (1.5 if step > 1 else 1e-9)  # colours are stored at half the size, and smoothed by the browser


def test_what_is_no_photo_and_what_is_cut_is_told() -> None:
    whole = {form: picture(form, 1) for form in ("JPEG", "PNG", "WEBP")}
    film = whole["JPEG"] + b"\0\0\0\x18ftypmp42" + b"film" * 100  # a phone's moving photo
    files = [
        *whole.values(),
        film,
        *(data[:-30] for data in whole.values()),
        b"hello world",
        b"",
        b"\0\0\0\x18ftypheic",
    ]
    asked = """(file) => { const bytes = new Uint8Array(Buffer.from(file, 'base64'));
    try { const form = sniff(bytes); return [form, lacksEnd(bytes, form)]; }
    catch ({code, message}) { return [code, message]; } }"""
    told = node("lacksEnd, sniff from headers.js", asked, [base64.b64encode(data).decode() for data in files])
    assert told[:4] == [["JPEG", False], ["PNG", False], ["WEBP", False], ["JPEG", False]]
    assert told[4:7] == [["JPEG", True], ["PNG", True], ["WEBP", True]]
    words = 'not a photo that can be read: it begins with "hello wo"; allowed: JPEG, PNG, WEBP, AVIF, GIF, BMP, HEIC'
    assert told[7] == ["unsupported-format", words]
    assert told[8] == ["empty", "the file is empty (0 bytes)"]
    assert told[9] == ["HEIC", False]
    for data, (said, _) in zip(files[7:9], told[7:9], strict=True):
        with pytest.raises(ImageError) as error:
            sniff(data)
        assert error.value.code == said


def test_a_jpeg_that_was_cut_between_two_scans_is_told() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    files = []
    for mode, progressive in (("RGB", True), ("L", True), ("RGB", False)):
        out = BytesIO()
        noise.convert(mode).save(out, "JPEG", progressive=progressive)
        data = out.getvalue()
        files += [data, data[:-2], *(data[: at.start()] for at in re.finditer(rb"\xff[\xda\xc4]", data))]
    asked = "(file) => lacksScans(new Uint8Array(Buffer.from(file, 'base64')))"
    told = node("lacksScans from headers.js", asked, [base64.b64encode(data).decode() for data in files])
    assert told == [lacks_scans(data) for data in files]
    assert 6 <= told.count(False) < len(told) - 10
