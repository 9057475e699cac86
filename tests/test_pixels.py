"""From bytes to network input: formats, colours, orientation, geometry, hostile files."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from carspotter.errors import BundleError, ImageError
from carspotter.geometry import BoundingBox
from carspotter.pixels import (
    LETTERBOX_GREY,
    DecodedPhoto,
    Preprocessing,
    decode,
    network_input,
    to_network_box,
    to_photo_box,
)
from hostile import encoded, heic, hostile_files, photo, png
from waiting import NEVER_S

SQUASH = Preprocessing(width=224, height=160)
LETTERBOX = Preprocessing(width=256, height=192, fit="letterbox")


def distance(pixels, image):
    """Return the mean distance of pixels from an image in steps of 1/255."""
    return float(np.abs(pixels.astype(int) - np.asarray(image.convert("RGB"), dtype=int)).mean())


# ---- formats and colours


@pytest.mark.parametrize(
    ("form", "tolerance"), [("JPEG", 4), ("PNG", 0), ("WEBP", 5), ("AVIF", 4), ("GIF", 12), ("BMP", 0), ("HEIC", 6)]
)
def test_formats(form, tolerance):
    data = heic(photo()) if form == "HEIC" else encoded(photo(), form)
    if data is None:
        pytest.skip("pillow-heif is not installed")
    decoded = decode(data)
    assert (decoded.width, decoded.height, decoded.scale) == (96, 64, 1.0)
    assert decoded.pixels.shape == (64, 96, 3)
    assert decoded.pixels.dtype == np.uint8
    assert distance(decoded.pixels, photo()) <= tolerance


@pytest.mark.parametrize(
    ("mode", "form", "tolerance"),
    [
        ("1", "PNG", 0),
        ("L", "PNG", 0),
        ("L", "JPEG", 3),
        ("P", "PNG", 0),
        ("LA", "PNG", 0),
        ("RGBA", "WEBP", 5),
        ("CMYK", "JPEG", 4),
        ("YCbCr", "JPEG", 4),
        ("P", "BMP", 0),
        ("RGBA", "PNG", 0),
    ],
)
def test_colour_modes(mode, form, tolerance):
    image = photo(mode=mode)
    assert distance(decode(encoded(image, form)).pixels, image) <= tolerance


def test_cmyk_of_adobe_is_not_inverted():
    red = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")).pixels
    assert red[8, 8].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_16_bit_grey_keeps_its_range():
    ramp = np.linspace(0, 65_535, 256, dtype=np.uint16).reshape(16, 16)
    pixels = decode(encoded(Image.fromarray(ramp), "PNG")).pixels
    assert np.abs(pixels[..., 0].astype(int) - (ramp >> 8)).max() == 0


def test_16_bit_colour():
    row = b"\0" + struct.pack(">6H", 65_535, 32_768, 0, 256, 512, 768)
    pixels = decode(png(2, 1, depth=16, idat=zlib.compress(row))).pixels
    assert pixels.tolist() == [[[255, 128, 0], [1, 2, 3]]]


@pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "AVIF")])
def test_alpha_lies_on_white(mode, form):
    image = Image.new(mode, (32, 32), (0,) * len(mode))
    assert decode(encoded(image, form)).pixels.min() >= 254


def test_transparent_palette_lies_on_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encoded(image, "PNG", transparency=1)).pixels.min() == 255
    assert decode(encoded(image, "GIF", transparency=1)).pixels.min() == 255
    assert decode(encoded(image, "GIF")).pixels[0, 0].tolist() == [10, 20, 30]


def test_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for form in ("GIF", "PNG", "WEBP", "AVIF"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=100)
        assert decode(data).pixels[4, 4].tolist() == pytest.approx([255, 0, 0], abs=4), form


def test_a_profile_is_converted():
    # A profile of its own: sRGB with the primaries of red and green exchanged, under another name.
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = decode(encoded(photo(), "PNG")).pixels
    assert (decode(encoded(photo(), "PNG", icc_profile=srgb)).pixels == plain).all()
    other = bytearray(srgb)
    red, green = other.index(b"rXYZ"), other.index(b"gXYZ")
    other[red : red + 4], other[green : green + 4] = b"gXYZ", b"rXYZ"
    named = bytes(other).replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be")).replace(b"sRGB b", b"xRGB b")
    swapped = decode(encoded(Image.new("RGB", (4, 4), (255, 0, 0)), "PNG", icc_profile=named)).pixels
    assert swapped[0, 0].tolist() == pytest.approx([0, 255, 0], abs=2)
    palette = Image.new("RGB", (4, 4), (255, 0, 0)).quantize(4)
    swapped = decode(encoded(palette, "PNG", icc_profile=named)).pixels
    assert swapped[0, 0].tolist() == pytest.approx([0, 255, 0], abs=2)


@pytest.mark.parametrize("profile", [b"nonsense", bytes(300)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_broken_profile_is_ignored(profile, mode):
    image = photo(mode=mode)
    assert distance(decode(encoded(image, "JPEG", icc_profile=profile)).pixels, image) <= 4


def test_a_profile_for_other_colours_is_ignored():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = photo(mode="CMYK")
    named = srgb.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    assert distance(decode(encoded(image, "JPEG", icc_profile=named)).pixels, image) <= 4


# ---- orientation and scaled decoding

# As Exif 2.32 has it: where the first row and column of the stored picture lie in the upright one.
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def with_orientation(image, form, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, form, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_upright(orientation, form):
    stored = decode(encoded(photo(), form)).pixels
    decoded = decode(with_orientation(photo(), form, orientation))
    assert (decoded.pixels == ORIENTATIONS[orientation](stored)).all()
    assert decoded.pixels.shape == (decoded.height, decoded.width, 3)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_upright_after_scaled_decoding(orientation):
    decoded = decode(with_orientation(photo((801, 603)), "JPEG", orientation), min_side=140)
    turned = orientation > 4
    assert (decoded.width, decoded.height) == ((603, 801) if turned else (801, 603))
    assert decoded.pixels.shape == ((201, 151, 3) if turned else (151, 201, 3))
    assert decoded.scale == pytest.approx(0.25, abs=0.001)


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_unknown_orientation_is_upright(orientation):
    assert decode(with_orientation(photo(), "JPEG", orientation)).pixels.shape == (64, 96, 3)


def test_both_byte_orders_of_exif():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    assert decode(encoded(photo(), "JPEG", exif=exif)).pixels.shape == (96, 64, 3)


def test_avif_is_turned_once():
    assert decode(with_orientation(photo(), "AVIF", 6)).pixels.shape == (96, 64, 3)


def test_heic_is_turned_by_its_container_alone():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.from_pillow(photo()).save(buffer, exif=exif.tobytes())
    decoded = decode(buffer.getvalue())
    assert (decoded.width, decoded.height) == (64, 96)
    assert decoded.pixels.shape == (96, 64, 3)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 200))
def test_scaled_decoding_keeps_the_shorter_side(width, height, min_side):
    decoded = decode(encoded(Image.new("RGB", (width, height)), "JPEG"), min_side=min_side)
    assert (decoded.width, decoded.height) == (width, height)
    assert min(decoded.pixels.shape[:2]) >= min(min_side, width, height)
    assert decoded.scale >= 0.125


def test_scaled_decoding_hardly_changes_the_input():
    data = encoded(photo((1600, 1200)), "JPEG", quality=90)
    full, scaled = decode(data), decode(data, min_side=224)
    assert scaled.pixels.shape == (300, 400, 3)
    difference = network_input(full.pixels, SQUASH).astype(int) - network_input(scaled.pixels, SQUASH)
    # Scaled decoding shifts pixels by about one step.
    assert np.abs(difference).mean() <= 1.5


# ---- network input


def test_squash_and_letterbox():
    pixels = np.full((100, 300, 3), 200, dtype=np.uint8)
    assert network_input(pixels, SQUASH).shape == (160, 224, 3)
    boxed = network_input(pixels, LETTERBOX)
    assert boxed.shape == (192, 256, 3)
    rows = np.flatnonzero((boxed == 200).all(axis=(1, 2)))
    assert (rows[0], len(rows)) == (53, 85)
    assert (boxed[:53] == LETTERBOX_GREY).all()
    assert boxed.flags.writeable


@given(
    st.tuples(st.integers(8, 300), st.integers(8, 300)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from(["squash", "letterbox"]),
)
def test_boxes_there_and_back(size, parts, fit):
    preprocessing = Preprocessing(width=256, height=192, fit=fit)
    xs, ys = sorted(parts[:2]), sorted(parts[2:])
    box = BoundingBox(xs[0], ys[0], xs[1], ys[1]).scale(*size)
    there = to_network_box(box, size, preprocessing)
    assert there.clip(256, 192).to_list() == pytest.approx(there.to_list())
    assert to_photo_box(there, size, preprocessing).to_list() == pytest.approx(box.to_list(), abs=1e-6)


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_a_painted_box_is_where_the_formula_says(fit):
    preprocessing = Preprocessing(width=256, height=192, fit=fit)
    pixels = np.zeros((300, 500, 3), dtype=np.uint8)
    pixels[60:240, 100:350] = 255
    shown = network_input(pixels, preprocessing)[..., 0] > 127
    if fit == "letterbox":
        shown &= network_input(pixels, preprocessing)[..., 0] != LETTERBOX_GREY
    ys, xs = np.nonzero(shown)
    found = BoundingBox(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert to_photo_box(found, (500, 300), preprocessing).iou(BoundingBox(100, 60, 350, 240)) > 0.97


@given(st.tuples(*[st.floats(-50, 250)] * 4), st.floats(0, 0.5))
def test_a_crop_equals_the_one_of_the_whole_photo(parts, pad):
    pixels = np.asarray(photo((200, 150)))
    xs, ys = sorted(parts[:2]), sorted(parts[2:])
    box = BoundingBox(xs[0], ys[0], xs[1], ys[1])
    preprocessing = Preprocessing(width=32, height=24, pad=pad)
    area = box.pad(pad).clip(200, 150)
    if area.width < 1 or area.height < 1:
        with pytest.raises(ImageError, match="nothing to crop"):
            network_input(pixels, preprocessing, box)
        return
    whole = Image.fromarray(pixels).resize((32, 24), Image.Resampling.BILINEAR, box=tuple(area.to_list()))
    # Pillow computes the filter in fixed point: its rounding may fall the other way after a shift.
    assert np.abs(network_input(pixels, preprocessing, box).astype(int) - np.asarray(whole)).max() <= 1


def test_a_box_outside_says_so():
    with pytest.raises(ImageError, match=r"box \(300, 300, 400, 400\) holds no pixel of a photo of 96x64") as caught:
        network_input(np.asarray(photo()), SQUASH, BoundingBox(300, 300, 400, 400))
    assert caught.value.code == "empty"


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_pixels_of_a_wrong_shape(shape):
    with pytest.raises(ImageError, match="pixels of shape"):
        network_input(np.zeros(shape, dtype=np.uint8), SQUASH)
    with pytest.raises(ImageError, match="float32"):
        network_input(np.zeros((4, 4, 3), dtype=np.float32), SQUASH)  # type: ignore[arg-type]


def test_preprocessing_is_json():
    content = json.loads(json.dumps(LETTERBOX.to_dict()))
    assert content == {"width": 256, "height": 192, "fit": "letterbox", "pad": 0.0}
    assert Preprocessing.from_dict(content) == LETTERBOX


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"width": 1, "heigth": 1}, "did you mean 'height'"),
        ({"width": 1}, "height must be given"),
        ({"width": 0, "height": 1}, "whole number"),
        ({"width": 1.5, "height": 1}, "whole number"),
        ({"width": 1, "height": 1, "fit": "letterbx"}, "did you mean 'letterbox'"),
        ({"width": 1, "height": 1, "pad": -1}, "0 to 1"),
    ],
)
def test_impossible_preprocessing(content, message):
    with pytest.raises(BundleError, match=message):
        Preprocessing.from_dict(content)


# ---- bad input


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"I am a text", "unsupported-format"),
        (b"II*\0" + bytes(30), "unsupported-format"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff" + bytes(99), "truncated"),
    ],
)
def test_what_is_no_photo(data, code):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_photo_says_so(form, part):
    data = encoded(photo(), form)
    with pytest.raises(ImageError) as caught:
        decode(data[: int(len(data) * part)])
    assert caught.value.code == "truncated"


def test_the_limit_is_of_the_original():
    data = encoded(photo((100, 80)), "JPEG")
    assert decode(data, max_pixels=8000).width == 100
    with pytest.raises(ImageError, match=r"100x80 is over the limit of 0\.007999 million") as caught:
        decode(data, max_pixels=7999, min_side=10)
    assert caught.value.code == "too-large"


def test_heic_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install \"carspotter\[heic\]\"") as caught:
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    assert caught.value.code == "unsupported-format"


def test_warnings_stay_inside_and_filters_are_put_back():
    image = photo()
    data = encoded(image, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(data)
    assert not caught
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_a_decoded_photo_is_read_only():
    decoded = decode(encoded(photo(), "PNG"))
    assert isinstance(decoded, DecodedPhoto)
    assert not decoded.pixels.flags.writeable


# A process of its own: one that hangs can be ended, and its memory has a limit that a bomb would hit. It says what it
# is at before each file, so that the parent knows which one it was.
_READER = """
import resource, sys, warnings
from pathlib import Path
warnings.simplefilter("error")
from carspotter.errors import ImageError
from carspotter.pixels import decode
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
calls = 0
def count(*_):
    global calls
    calls += 1
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    data = path.read_bytes()
    calls = 0
    sys.setprofile(count)
    for min_side in (None, 32):
        try:
            decode(data, min_side=min_side)
            answer = "decoded"
        except ImageError as error:
            assert len(str(error)) < 400 and "\\n" not in str(error) and "object at" not in str(error), str(error)
            answer = error.code
    sys.setprofile(None)
    print(answer, calls // 2, flush=True)
# Not getrusage: its peak is inherited from the test runner, which may have torch loaded.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak", int(peak.split()[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and counts memory as Linux does")
def test_hostile_files_neither_crash_nor_hang_nor_take_memory(tmp_path):
    files = hostile_files(tmp_path / "hostile")
    assert len(files) >= 150
    # 4 GiB of addresses, of which libraries map the most; what is really used is asserted below.
    command = [sys.executable, "-c", _READER, str(tmp_path / "hostile"), str(4 << 30)]
    source = str(Path(__file__).parent.parent / "src")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    # All of them take some seconds in all, and a hang takes for ever.
    result = subprocess.run(command, capture_output=True, text=True, timeout=NEVER_S, env=environment, check=False)
    assert result.returncode == 0, result.stdout[-200:] + result.stderr[-2000:]
    *lines, peak = result.stdout.splitlines()
    assert len(lines) == len(files)
    answers = {line.split()[0]: line.split()[1] for line in lines}
    # Of a file in a million pieces no more than 50,000 are read, with some calls for each, however long it is.
    calls = {line.split()[0]: int(line.split()[2]) for line in lines}
    assert max(calls.values()) < 10 * 50_000, max(calls, key=calls.__getitem__)
    assert int(peak.split()[1]) < 600, "MiB"
    assert answers["text.jpg"] == "unsupported-format"
    assert answers["empty.jpg"] == "empty"
    assert answers["bomb-png-30000x30000.png"] == "too-large"
    assert {answers[name] for name in answers if name.startswith("exif-") and name.endswith(".jpg")} == {"decoded"}
    assert answers.pop("cut-jpeg-last.jpg") == "decoded"  # nothing but its end marker is missing
    assert {answers[name] for name in answers if name.startswith("cut-jpeg")} == {"truncated"}


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]))
def test_any_bytes_decode_or_raise_an_image_error(data, head):
    try:
        decoded = decode(head + data)
    except ImageError:
        return
    assert decoded.pixels.ndim == 3


@pytest.mark.parametrize("restart", [0, 1, 7])  # blocks between two restart markers, as phones write them; 0: none
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_whole(progressive: bool, restart: int) -> None:
    pixels = np.random.default_rng(0).integers(60, 190, (250, 380, 3), dtype=np.uint8)
    pixels[:120] = 90
    file = io.BytesIO()
    more = {"restart_marker_blocks": restart} if restart else {}
    Image.fromarray(pixels).save(file, "JPEG", progressive=progressive, **more)
    data = file.getvalue()
    assert data.endswith(b"\xff\xd9")
    for cut, min_side in ((1, None), (2, None), (2, 32)):
        np.testing.assert_array_equal(
            decode(data[:-cut], min_side=min_side).pixels, decode(data, min_side=min_side).pixels
        )
    # A marker of a restart, after which a decoder waits for the next one, is where to cut a file unseen.
    markers = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    places = [len(data) - cut for cut in (*range(3, 21), len(data) // 20, len(data) // 2)]
    for place in (*places, *markers[-1:], *markers[-3:-2], *markers[len(markers) // 2 :][:1]):
        with pytest.raises(ImageError) as raised:
            decode(data[:place])
        assert raised.value.code == "truncated", place
