"""Five hundred and more hostile uploads to one service: each gets a plain answer, and the service stays as it was."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import httpx
from PIL import Image

from alike import alike
from hostile import hostile_files
from photo_drawings import encoded
from serving.conftest import RED, Running, jpeg
from tiny_bundles import draw_photo

BOUNDARY = b"b0undary"


def files(folder: Path, chance: random.Random) -> list[bytes]:
    """Return the corpus of hostile files, and four hundred photos of several formats with bytes changed or lost."""
    found = [path.read_bytes() for path in hostile_files(folder)]
    image = Image.fromarray(draw_photo((160, 120), [("red", (20, 20, 100, 100))]))
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"):
        found += [damaged(encoded(image, form), chance) for _ in range(60)]
    return found


def damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 20)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    way = chance.randrange(4)
    if way == 0:
        return bytes(changed[: chance.randrange(len(changed))])
    if way == 1:
        at = chance.randrange(len(changed))
        return bytes(changed[:at]) + chance.randbytes(chance.randrange(2000)) + bytes(changed[at:])
    return bytes(changed)


def forms(photo: bytes, chance: random.Random) -> list[bytes]:
    """Return multipart bodies that break its grammar, or that hold odd parts."""
    head = b"--" + BOUNDARY + b'\r\ncontent-disposition: form-data; name="photo"; filename="%s"\r\n\r\n'
    end = b"\r\n--" + BOUNDARY + b"--\r\n"
    names = [b"a.jpg", b"../../etc/passwd", b"a" * 5000, b"\xff\xfe", b"a\x00b", b'x"; name="photos']
    bodies = [head % name + photo + end for name in names]
    bodies += [
        head % b"a" + photo,  # no end
        b"--" + BOUNDARY + b"\r\n\r\n" + photo + end,  # no disposition
        b"--" + BOUNDARY + b"\r\n" + b"x: y\r\n" * 3000 + b"\r\n" + photo + end,
        b"--" + BOUNDARY + b'\r\ncontent-disposition: form-data; name="photo"\r\n\r\nnot a file' + end,
        (b"--" + BOUNDARY + b'\r\ncontent-disposition: form-data; name="f"\r\n\r\nv\r\n') * 200 + end,
        end,
        b"",
        b"\r\n" * 1000,
    ]
    whole = head % b"a.jpg" + photo + end
    return bodies + [damaged(whole[:400], chance) + whole[400:] for _ in range(60)]


def test_five_hundred_hostile_uploads(service: Running, tmp_path: Path) -> None:
    chance = random.Random(5)
    before = service.http.post("/v1/photos", content=jpeg(RED), headers={"content-type": "image/jpeg"}).json()
    seen: Counter[int] = Counter()
    for data in files(tmp_path, chance):
        seen[send(service.http, data, "image/jpeg")] += 1
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    for data in forms(jpeg(RED), chance):
        seen[send(service.http, data, kind)] += 1
    assert seen.total() >= 500
    assert set(seen) <= {200, 400, 413, 415, 422}
    assert min(seen[200], seen[415], seen[422]) >= 10
    after = service.http.post("/v1/photos", content=jpeg(RED), headers={"content-type": "image/jpeg"}).json()
    assert after["vehicles"] == alike(before["vehicles"])
    assert "carspotter_upload_bytes 0.0" in service.http.get("/metrics").text


def send(http: httpx.Client, data: bytes, kind: str) -> int:
    answer = http.post("/v1/photos", content=data, headers={"content-type": kind})
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert answer.json()["status"] == answer.status_code
        assert "Traceback" not in answer.text
    return answer.status_code
