"""A project to review without a network run: drawn photos on the disk, and rows that say what was found on them."""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carspotter.catalog.tables import OK
from carspotter.project.folder import Project, create
from carspotter.project.locate import versions
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.serving.protocol import bind
from waiting import NEVER_S

MODELS = (("Audi", "A4"), ("BMW", "X5"), ("Opel", "Astra"))
SETTINGS = 'name = "to review"\n[classes]\nlevel = "model"\nmin_photos = 4\n'


def review_project(folder: Path, *, ads: int = 6, photos: int = 4, size: tuple[int, int] = (320, 240)) -> Project:
    """Make a project of ads with photos: three exteriors and an interior each; the last ad's words are nonsense.

    Photo k of ad n is "n/k". Of each ad the labels are resolved, the last one's are not.
    """
    project, ok = create(folder, SETTINGS), {"status": OK}
    names = [(f"{ad}/{k}", str(ad), k) for ad in range(ads) for k in range(photos)]
    for name, ad, k in names:
        _draw(folder / "photos" / f"{name}.jpg", int(ad) * photos + k, size)
    said = [("Qqzzx", "Vbnmk") if ad == ads - 1 else MODELS[ad % 3] for ad in range(ads)]
    with project.catalog() as catalog, catalog.writer():
        catalog.append(
            "listings", [{"ad_id": str(n), "make": a, "model": b, "year": 2012, **ok} for n, (a, b) in enumerate(said)]
        )
        catalog.append("listing_photos", [{"photo_id": p, "ad_id": ad, "position": k, **ok} for p, ad, k in names])
        catalog.append("files", [{"photo_id": p, "path": f"photos/{p}.jpg", **ok} for p, _, _ in names])
        catalog.append("checks", [_check(p, n, size) for n, (p, _, _) in enumerate(names)])
        catalog.append("findings", [_finding(p, n, k == photos - 1, size) for n, (p, _, k) in enumerate(names)])
        vectors = np.eye(8)[[int(ad) % 3 for _, ad, _ in names]]
        models = len(project.settings.locate.bundle("identifier").taxonomy.names("model"))  # type: ignore[union-attr]
        alike = np.full(models, 1 / models, np.float16)  # the network calls each photo all models alike
        catalog.append(
            "embeddings",
            [{"photo_id": p[0], "embedding": v, "said": alike, **ok} for p, v in zip(names, vectors, strict=True)],
            version=versions(project.settings.locate)["embeddings"],
        )
    return project


def _draw(path: Path, number: int, size: tuple[int, int]) -> None:
    """Draw a square of a colour of its own, with the place of a photographer in its metadata."""
    picture = Image.new("RGB", size, (40 * number % 256, 90 * number % 256, 150))
    picture.paste((200, 40, 40), (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=90, exif=exif)


def _check(photo: str, number: int, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "photo_id": photo,
        "width": size[0],
        "height": size[1],
        "sha256": photo,
        "phash": number * 0x9E3779B97F4A7C15 % 2**64,
        "dhash": number,
        "brightness": 0.5,
        "contrast": 0.3,
        "sharpness": 500.0,
        "status": OK,
    }


def _finding(photo: str, number: int, is_interior: bool, size: tuple[int, int]) -> dict[str, Any]:
    sure = round(0.5 + number % 17 / 40, 3)
    row = {
        "photo_id": photo,
        "kind": KINDS[1 if is_interior else 0],
        "kind_probability": sure,
        "exterior": 0.05 if is_interior else sure,
        "passed": not is_interior,
        "status": OK,
    }
    if is_interior:
        return row
    box = {"x1": size[0] / 4, "y1": size[1] / 4, "x2": size[0] / 2, "y2": size[1] / 2}
    return {**row, **box, "score": 0.9, "viewpoint": VIEWPOINTS[number % 8], "viewpoint_probability": sure}


@contextmanager
def served(app: Any, *, port: int = 0) -> Iterator[str]:
    """Serve an application on this machine, on a free port unless one is named; give its address."""
    server, socket = bind(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        socket.close()


@contextmanager
def review_process(
    folder: Path, *, person: str = "Ann", queue: str = "kind"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command in a process of its own; give it and its address."""
    call = f"review(Path({str(folder)!r}), person={person!r}, queue={queue!r}, host='127.0.0.1', port=0, open_=False)"
    more = "task=None, count=None, seed=0, "
    program = (
        f"from pathlib import Path; from carspotter.cli.review import review; {call.replace('host=', more + 'host=')}"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()[2].rstrip("/;")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def call(
    address: str, path: str, body: Any = None, *, token: str = "", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Ask a server, or post a body to it; give the status and the answer, read where it is JSON."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", "X-Review-Token": token} if data is not None else {}
    request = urllib.request.Request(address + path, data=data, headers={**sent, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=NEVER_S) as answer:
            content, status, kind = answer.read(), answer.status, answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            content, status, kind = error.read(), error.code, error.headers["Content-Type"]
    return status, json.loads(content) if "json" in (kind or "") else content
