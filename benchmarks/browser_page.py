"""Does the page that recognises in the browser answer as the server does, how fast, and what does a visitor fetch?

Builds the site (`carspotter browser`), serves it on loopback, hands photos to a real Chromium and compares each answer
with `Recognizer` on ONNX Runtime. A photo agrees when kind, number of vehicles and every answer (level and name, or the
words of "undecided") are equal. With `--enlarge 3` photos are first made so many times larger and stored as JPEG, so
that both decoders scale; `--isolated` sends the two headers that give the page threads.

    python benchmarks/browser_page.py FOLDER [--photos 200] [--enlarge 1] [--isolated]
        [--finder BUNDLE] [--identifier BUNDLE]
"""

import argparse
import functools
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from carspotter.export.browser import build_site, cache_folder
from carspotter.geometry import BoundingBox
from carspotter.pixels import decode
from carspotter.recognition.candidates import why_no_vehicle
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle, Task, shipped
from measure import parser, percentiles, report

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
QUALITY = 90
ANSWER_MS = 60_000
TRANSPORT_HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class Handler(SimpleHTTPRequestHandler):
    """Serve files in silence, with headers where asked."""

    headers_to_send: ClassVar[dict[str, str]] = {}

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def end_headers(self) -> None:
        """Add the headers to each answer."""
        for name, value in self.headers_to_send.items():
            self.send_header(name, value)
        super().end_headers()


@contextmanager
def served(folder: Path, *, isolated: bool) -> Iterator[str]:
    """Serve a folder on a free port of loopback."""
    kind = type("Isolated", (Handler,), {"headers_to_send": TRANSPORT_HEADERS}) if isolated else Handler
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def chosen(folder: Path, n: int) -> list[Path]:
    """Spread `n` photos evenly over all below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"no photo below {folder}")
    return [paths[i] for i in sorted({round(i) for i in np.linspace(0, len(paths) - 1, min(n, len(paths)))})]


def encoded(path: Path, enlarge: int) -> bytes:
    """Return the file as it is, or enlarged and stored as JPEG."""
    if enlarge == 1:
        return path.read_bytes()
    pixels = decode(path.read_bytes()).pixels
    image = Image.fromarray(pixels)
    out = BytesIO()
    size = (image.width * enlarge, image.height * enlarge)
    image.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def ask(page: Any, name: str, data: bytes) -> dict[str, Any]:
    """Give a photo to the page and read its answer as JSON; an error is `{"error": words}`."""
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})
    page.wait_for_function("() => document.querySelector('main').ariaBusy === 'false'", timeout=ANSWER_MS)
    wrong = page.locator("#messages .error")
    return {"error": wrong.inner_text()} if wrong.count() else json.loads(page.text_content("#json"))


def differences(page: dict[str, Any], server: dict[str, Any]) -> dict[str, Any]:
    """Compare two answers about one photo; numbers are over the vehicles that both list."""
    pairs = list(zip(page["vehicles"], server["vehicles"], strict=False))
    said = [[(v["answer"] or {}).get("level"), (v["answer"] or {}).get("name")] for pair in pairs for v in pair]
    same = all(said[i] == said[i + 1] for i in range(0, len(said), 2))
    boxes = [(BoundingBox.from_list(a["box"]), BoundingBox.from_list(b["box"])) for a, b in pairs]
    corners = [np.abs(np.subtract(a.to_list(), b.to_list())).max() for a, b in boxes]
    bests = [
        abs(a["levels"][level][0]["probability"] - b["levels"][level][0]["probability"])
        for a, b in pairs
        for level in a["levels"]
        if a["levels"][level] and b["levels"][level]
    ]
    return {
        "kind": page["kind"]["name"] == server["kind"]["name"],
        "n": len(page["vehicles"]) == len(server["vehicles"]),
        "answers": same,
        "words": page["undecided"] == server["undecided"],
        "views": all(a["viewpoint"]["name"] == b["viewpoint"]["name"] for a, b in pairs),
        "corner": max(corners, default=0.0),
        "iou": min((a.iou(b) for a, b in boxes), default=1.0),
        "probability": max([*bests, abs(page["kind"]["probability"] - server["kind"]["probability"])]),
    }


def row(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Sum up the comparison of all photos that both could read."""
    both = [differences(a, b) for a, b in pairs if not a.get("error") and not b.get("error")]
    agree = [one["kind"] and one["n"] and one["answers"] and one["words"] for one in both]
    return {
        "photos": len(pairs),
        "both read": len(both),
        "one alone read": sum(bool(a.get("error")) != bool(b.get("error")) for a, b in pairs),
        "agree": f"{100 * np.mean(agree):.1f} %",
        "same viewpoint": f"{100 * np.mean([one['views'] for one in both]):.1f} %",
        "largest difference of probability": f"{max(one['probability'] for one in both):.4f}",
        "p99 of it": f"{np.percentile([one['probability'] for one in both], 99):.4f}",
        "largest corner, px": f"{max(one['corner'] for one in both):.2f}",
        "least IoU": f"{min(one['iou'] for one in both):.4f}",
    }


def told(recognizer: Recognizer, data: bytes) -> dict[str, Any]:
    """Answer as the service does."""
    prediction = recognizer.recognize(data)
    return {**prediction.to_dict(), "undecided": why_no_vehicle(prediction)}


def compare(options: argparse.Namespace, site: Path, recognizer: Recognizer) -> tuple[dict[str, Any], list[Any]]:
    """Show every photo to the page and to the recognizer; give the seconds until the page was ready, and the pairs."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with served(site, isolated=options.isolated) as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        seconds = {}
        for visit in ("first visit", "next visit"):
            start = time.perf_counter()
            page.goto(url)
            page.wait_for_selector("main[data-ready=yes]", timeout=ANSWER_MS)
            seconds[visit] = f"{time.perf_counter() - start:.2f} s"
        pairs = []
        for path in chosen(options.folder, options.photos):
            data = encoded(path, options.enlarge)
            pairs.append((ask(page, path.name, data), told(recognizer, data)))
            if options.verbose and not all(differences(*pairs[-1])[key] for key in ("kind", "n", "answers", "words")):
                print(path, json.dumps(pairs[-1], indent=1))
        seconds["threads"] = str(page.text_content("#bundles")).split(" on ")[-1].split(";")[0]
        browser.close()
    return seconds, pairs


def main() -> None:
    """Build, serve, compare, print."""
    arguments = parser(__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--photos", type=int, default=200)
    arguments.add_argument("--enlarge", type=int, default=1)
    arguments.add_argument("--finder", type=Path, help="folder of another finder's bundle")
    arguments.add_argument("--identifier", type=Path, help="folder of another identifier's bundle")
    arguments.add_argument("--isolated", action="store_true")
    arguments.add_argument("--verbose", action="store_true", help="print the pairs that differ")
    options = arguments.parse_args()
    given: dict[Task, Any] = {"finder": options.finder, "identifier": options.identifier}
    bundles: dict[Any, ModelBundle] = {
        task: ModelBundle.load(folder) if folder else shipped(task) for task, folder in given.items()
    }
    folders: dict[str, Any] = {task: bundle.model_path.parent for task, bundle in bundles.items()}
    recognizer = Recognizer.open(**folders, engine="onnxruntime", threads=1, select="all")
    with tempfile.TemporaryDirectory() as place:
        site = build_site(
            Path(place) / "site",
            finder=bundles["finder"],
            identifier=bundles["identifier"],
            cache=cache_folder() / "browser",
        )
        ready, pairs = compare(options, site.folder, recognizer)
    times = [a["milliseconds"] for a, _ in pairs if not a.get("error")]
    rows = [
        {"part": part, **percentiles([one[part] for one in times])} for part in ("decode", "find", "identify", "total")
    ]
    conditions = {
        **ready,
        "download, once": f"{site.download_bytes / 1e6:.1f} MB",
        "bundles": ", ".join(one.name for one in bundles.values()),
    }
    report(
        "the page in the browser against the server", [row(pairs), *rows], as_json=options.json, conditions=conditions
    )


if __name__ == "__main__":
    main()
