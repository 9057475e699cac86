"""Make files that no photo reader likes, the same ones each time.

In: an empty folder. Out: at least 150 files in it, each named for what is wrong. A reader may decode one or refuse it
with an ImageError; it may not crash, hang, or take memory without bound.
"""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from photo_drawings import encoded

SEED = 20_260


def hostile_files(folder: Path) -> list[Path]:
    """Write the corpus into `folder` and return its files, sorted by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for make in (_no_photos, _truncations, _bit_flips, _bombs, _metadata, _containers, _oddities):
        for name, data in make():
            path = folder / name
            assert not path.exists(), f"two hostile files are called {name}"
            path.write_bytes(data)
            paths.append(path)
    return sorted(paths)


def photo(size: tuple[int, int] = (96, 64), mode: str = "RGB") -> Image.Image:
    """Draw a picture with gradients and an edge, which no format stores in a few bytes."""
    width, height = size
    red = Image.linear_gradient("L").resize(size)
    green = Image.radial_gradient("L").resize(size)
    blue = Image.new("L", size, 40)
    blue.paste(220, (width // 4, height // 4, width // 2, height // 2))
    return Image.merge("RGB", (red, green, blue)).convert(mode)


def heic(image: Image.Image) -> bytes | None:
    """Return the image as HEIC, or None where the library is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return None
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer)
    return buffer.getvalue()


def png(width: int, height: int, *, idat: bytes = b"", extra: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG with this header, whatever its pixels (colour 0 grey, 2 RGB, 3 palette, 6 RGBA)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", idat) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with a right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _samples() -> dict[str, bytes]:
    image = photo()
    samples = {
        "jpeg": encoded(image, "JPEG", quality=80),
        "progressive": encoded(image, "JPEG", progressive=True),
        "png": encoded(image, "PNG"),
        "webp": encoded(image, "WEBP"),
        "lossless": encoded(image, "WEBP", lossless=True),
        "avif": encoded(image, "AVIF", speed=10),
        "gif": encoded(image, "GIF"),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF"),
        "deflate": encoded(image, "TIFF", compression="tiff_deflate"),
    }
    packed = heic(image)
    return samples if packed is None else {**samples, "heic": packed}


def _no_photos() -> Iterator[tuple[str, bytes]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as outer:
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("zeros", bytes(1 << 20))
        outer.writestr("inner.zip", inner.getvalue())
    texts = {
        "text.jpg": b"I am a text, not a photo.\n",
        "empty.jpg": b"",
        "one-byte.jpg": b"\xff",
        "html.jpg": b"<!doctype html><html><body>404 Not Found</body></html>",
        "json.png": b'{"error": "not found"}',
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "xml-entities.jpg": b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>',
        "pdf.jpg": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n",
        "zip-in-zip.jpg": archive.getvalue(),
        "shell.jpg": b"#!/bin/sh\nexit 1\n",
        "zeros.jpg": bytes(4096),
        "ones.png": b"\xff" * 4096,
        "newlines.gif": b"\n" * 999,
        "mp4.heic": b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42" + bytes(64),
        "ppm.jpg": b"P6 2 2 255 " + bytes(12),
        "psd.jpg": b"8BPS\x00\x01" + bytes(40),
        "ico.png": b"\x00\x00\x01\x00\x01\x00" + bytes(40),
        "jpeg2000.jpg": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(40),
        "pickle.jpg": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.",
    }
    yield from texts.items()
    yield "noise.jpg", random.Random(SEED).randbytes(10_000)


def _truncations() -> Iterator[tuple[str, bytes]]:
    for form, data in _samples().items():
        for part in (0.01, 0.05, 0.2, 0.5, 0.75, 0.9, 0.99):
            length = max(int(len(data) * part), 4)
            yield f"cut-{form}-{length:05d}.jpg", data[:length]
        yield f"cut-{form}-last.jpg", data[:-1]


def _bit_flips() -> Iterator[tuple[str, bytes]]:
    for form, data in _samples().items():
        for number in range(6):
            chance = random.Random(f"{SEED}-{form}-{number}")
            damaged = bytearray(data)
            for _ in range(1 + 4 * number):
                # Half of the flips hit the first 200 bytes, where headers and tables lie.
                end = min(200, len(data)) if chance.random() < 0.5 else len(data)
                damaged[chance.randrange(end)] ^= 1 << chance.randrange(8)
            yield f"flips-{form}-{number}.jpg", bytes(damaged)


def _bombs() -> Iterator[tuple[str, bytes]]:
    rows = zlib.compress(bytes(30_000 * (1 + 30_000 * 3) // 100), 9)
    yield "bomb-png-30000x30000.png", png(30_000, 30_000, idat=rows)
    yield "bomb-png-huge.png", png(2**31 - 1, 2**31 - 1, idat=rows)
    yield "bomb-png-flat.png", png(100_000_000, 1, colour=0, idat=zlib.compress(bytes(1 << 20)))
    yield "bomb-png-tall.png", png(1, 100_000_000, colour=0, idat=zlib.compress(bytes(1 << 20)))
    pixels = zlib.compress(bytes(64 << 20), 9)
    text = zlib.compress(b"a" * (64 << 20), 9)
    small = zlib.compress(bytes(4 * 13))
    yield "bomb-text.png", png(4, 4, idat=small, extra=chunk(b"zTXt", b"Comment\0\0" + text))
    yield "bomb-itxt.png", png(4, 4, idat=small, extra=chunk(b"iTXt", b"Comment\0\1\0\0\0" + text))
    yield "bomb-texts.png", png(4, 4, idat=small, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b" * 900_000)) * 80)
    yield "bomb-profile.png", png(4, 4, idat=small, extra=chunk(b"iCCP", b"icc\0\0" + text))
    yield "bomb-surplus.png", png(4, 4, idat=pixels)
    yield "bomb-gif.gif", b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\xf0\0\0" + bytes(6) + b","
    frame = struct.pack("<HHHH", 0, 0, 65_535, 65_535)
    yield "bomb-gif-frame.gif", b"GIF89a\4\0\4\0\xf0\0\0" + bytes(6) + b"," + frame + b"\0\2\2L\1\0;"
    yield "bomb-bmp.bmp", _bmp(60_000, 60_000)
    yield "bomb-bmp-negative.bmp", _bmp(-2, 2**31 - 1)
    yield "bomb-tiff.tif", _tiff({256: 60_000, 257: 60_000})
    yield "bomb-tiff-tile.tif", _tiff({256: 8, 257: 8, 322: 60_000, 323: 60_000})
    yield "bomb-webp-lossless.webp", _riff(b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(20))
    yield "bomb-webp-canvas.webp", _riff(b"VP8X", b"\x02\0\0\0" + b"\xff\x3f\0" * 2 + b"ANIM" + bytes(10))
    scan = _jpeg_size(encoded(photo((16, 16)), "JPEG"), 65_000, 65_000)
    yield "bomb-jpeg.jpg", scan
    yield "bomb-jpeg-scans.jpg", _scans(2000)
    yield "bomb-avif.avif", _resized_boxes(encoded(photo(), "AVIF", speed=10), 65_000, 65_000)


def _metadata() -> Iterator[tuple[str, bytes]]:
    image = photo()
    exifs = {
        "garbage": b"Exif\0\0" + random.Random(SEED).randbytes(300),
        "short": b"Exif\0\0II*",
        "loop": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0",
        "count": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\x08\0\0\0\0\0\0\0",
        "orientation-99": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
        "orientation-text": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
        "copies": b"Exif\0\0II*\0\x08\0\0\0\x88\x13" + b"\x0f\x01\x07\0\x60\xea\0\0\x08\0\0\0" * 5000,
        "dimensions": b"Exif\0\0II*\0\x08\0\0\0\x02\0\x00\x01\x04\0\x01\0\0\0\xff\xff\xff\xff"
        b"\x01\x01\x04\0\x01\0\0\0\xff\xff\xff\xff\0\0\0\0",
    }
    for name, exif in exifs.items():
        yield f"exif-{name}.jpg", encoded(image, "JPEG", exif=exif)
        yield f"exif-{name}.webp", encoded(image, "WEBP", exif=exif)
        yield f"exif-{name}.png", png(4, 4, idat=zlib.compress(bytes(4 * 13)), extra=chunk(b"eXIf", exif[6:]))
    profiles = {
        "text": b"not a profile",
        "zeros": bytes(200),
        "length": b"\xff\xff\xff\xff" + bytes(32) + b"acsp" + bytes(200),
        "long": random.Random(SEED).randbytes(6 << 20),
    }
    for name, profile in profiles.items():
        yield f"profile-{name}.jpg", encoded(image, "JPEG", icc_profile=profile)
        yield f"profile-{name}.webp", encoded(image, "WEBP", icc_profile=profile)
    yield "profile-on-cmyk.jpg", encoded(image.convert("CMYK"), "JPEG", icc_profile=_srgb())
    yield "profile-on-grey.jpg", encoded(image.convert("L"), "JPEG", icc_profile=_srgb())
    yield "xmp-deep.webp", encoded(image, "WEBP", xmp=b"<a>" * 20_000)


def _containers() -> Iterator[tuple[str, bytes]]:
    good = encoded(photo(), "PNG")
    yield "png-bad-checksum.png", good[:29] + b"\0\0\0\0" + good[33:]
    yield "png-no-pixels.png", png(4, 4)
    yield "png-zero-width.png", png(0, 4)
    yield "png-odd-depth.png", png(4, 4, depth=7)
    yield "png-no-palette.png", png(4, 4, colour=3, idat=zlib.compress(bytes(20)))
    yield "png-chunk-length.png", good[:33] + b"\xff\xff\xff\xffIDAT" + good[41:]
    yield "png-empty-chunks.png", good[:33] + chunk(b"teSt", b"") * 200_000 + good[33:]
    yield "png-two-headers.png", good[:33] + good[8:]
    frames = [photo(), photo().rotate(90)]
    yield "apng.png", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    empty = zlib.compress(bytes(4 * 13))
    yield "apng-no-frames.png", png(4, 4, idat=empty, extra=chunk(b"acTL", struct.pack(">II", 0, 0)))
    yield "apng-many-frames.png", png(4, 4, idat=empty, extra=chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))
    yield "gif-no-frames.gif", b"GIF89a\4\0\4\0\xf0\0\0" + bytes(6) + b";"
    yield "gif-comments.gif", b"GIF89a\4\0\4\0\xf0\0\0" + bytes(6) + b"!\xfe\x01a\0" * 400_000 + b";"
    yield "gif-zero-size.gif", b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2\0;"
    yield "gif-code-size.gif", b"GIF89a\4\0\4\0\xf0\0\0" + bytes(6) + b",\0\0\0\0\4\0\4\0\0\xff\2L\1\0;"
    webp = encoded(photo(), "WEBP")
    yield "webp-size-lies-up.webp", webp[:4] + b"\xff\xff\xff\x7f" + webp[8:]
    yield "webp-size-lies-down.webp", webp[:4] + struct.pack("<I", 20) + webp[8:]
    yield "webp-no-frame.webp", b"RIFF\x04\0\0\0WEBP"
    yield "avif-garbage.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + random.Random(SEED).randbytes(500)
    yield "avif-box-zero.avif", b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\0meta" + bytes(50)
    yield "heic-garbage.heic", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + random.Random(SEED).randbytes(500)
    yield "tiff-loop.tif", b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x04\0\0\0\x08\0\0\0"
    yield "tiff-offset.tif", b"II*\0\xff\xff\xff\xff"
    yield "tiff-no-tags.tif", b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
    yield "tiff-copies.tif", b"II*\0\x08\0\0\0\xff\xff" + b"\0\x01\x01\0\0\0\x08\0\x08\0\0\0" * 65_535
    yield "tiff-many-tags.tif", b"II*\0\x08\0\0\0\xff\xff" + b"\0\x01\x03\0\xff\xff\xff\xff\x08\0\0\0" * 2000
    yield "tiff-strip-offset.tif", _tiff({256: 8, 257: 8, 273: 2**31})
    yield "tiff-bits.tif", _tiff({256: 8, 257: 8, 258: 255, 277: 255})
    yield "bmp-offset.bmp", _bmp(4, 4, offset=2**31 - 1)
    yield "bmp-zero.bmp", _bmp(0, 0)


def _oddities() -> Iterator[tuple[str, bytes]]:
    image = photo()
    yield "really-png.jpg", encoded(image, "PNG")
    yield "really-jpeg.gif", encoded(image, "JPEG")
    yield "really-avif.png", encoded(image, "AVIF", speed=10)
    yield "one-pixel.jpg", encoded(photo((1, 1)), "JPEG")
    yield "needle.png", encoded(photo((1, 20_000)), "PNG")
    yield "cmyk.jpg", encoded(image.convert("CMYK"), "JPEG")
    cmyk = encoded(image.convert("CMYK"), "JPEG")
    yield "cmyk-broken.jpg", cmyk[: len(cmyk) // 2] + bytes(100) + cmyk[len(cmyk) // 2 :]
    yield "cmyk-no-adobe.jpg", cmyk.replace(b"Adobe", b"Other")
    yield "float.tif", encoded(image.convert("F"), "TIFF")
    yield "lab.tif", _tiff({262: 8, 277: 3})
    jpeg = encoded(image, "JPEG")
    yield "jpeg-zero-size.jpg", _jpeg_size(jpeg, 0, 0)
    yield "jpeg-wider.jpg", _jpeg_size(jpeg, 4000, 3000)
    yield "jpeg-no-tables.jpg", jpeg.replace(b"\xff\xdb", b"\xff\xfe")
    yield "jpeg-no-huffman.jpg", jpeg.replace(b"\xff\xc4", b"\xff\xfe")
    yield "jpeg-components.jpg", _patched(jpeg, jpeg.index(b"\xff\xc0") + 9, b"\x7f")
    yield "jpeg-precision.jpg", _patched(jpeg, jpeg.index(b"\xff\xc0") + 4, b"\x0c")
    yield "jpeg-lossless.jpg", jpeg.replace(b"\xff\xc0", b"\xff\xc3")
    yield "jpeg-markers-only.jpg", b"\xff\xd8" + b"\xff\xfe\0\2" * 100_000 + b"\xff\xd9"
    yield "jpeg-fill.jpg", b"\xff\xd8" + b"\xff" * 4_000_000
    yield "jpeg-junk.jpg", b"\xff\xd8\xff\xfe\0\2" + b"a" * 4_000_000
    yield "jpeg-tail.jpg", jpeg + random.Random(SEED).randbytes(100_000)
    yield "mpo.jpg", encoded(image, "MPO", save_all=True, append_images=[image])
    mpo = encoded(image, "MPO", save_all=True, append_images=[image])
    yield "mpo-cut.jpg", mpo[: len(mpo) * 2 // 3]
    yield "mpo-garbage.jpg", mpo.replace(b"MPF\0", b"MPF\0\xff\xff\xff\xff", 1)


# ---- writers of headers


def _patched(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def _jpeg_size(data: bytes, width: int, height: int) -> bytes:
    return _patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def _scans(count: int) -> bytes:
    """Return a progressive JPEG of 8000 x 8000 pixels whose last scan, a few bytes, comes `count` times."""
    data = encoded(photo((16, 16)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    data = _patched(data, data.index(b"\xff\xc2") + 5, struct.pack(">HH", 8000, 8000))
    return data[:start] + data[start:-2] * count + b"\xff\xd9"


def _resized_boxes(data: bytes, width: int, height: int) -> bytes:
    """Return an AVIF or HEIC file whose `ispe` property claims another size."""
    return _patched(data, data.index(b"ispe") + 8, struct.pack(">II", width, height))


def _riff(kind: bytes, data: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _bmp(width: int, height: int, *, offset: int = 54) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, offset) + header + bytes(64)


def _tiff(tags: dict[int, int]) -> bytes:
    """Return a grey TIFF of 8 x 8 pixels with some tags changed or added."""
    wanted = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 64} | tags
    if 322 in tags:
        wanted |= {259: 8, 324: 8, 325: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(wanted.items()))
    pixels = bytes(range(64))
    return b"II*\0" + struct.pack("<I", 8 + 64) + pixels + struct.pack("<H", len(wanted)) + entries + bytes(4)


def _srgb() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
