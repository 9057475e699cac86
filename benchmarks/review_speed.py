"""How soon a review shows the next photo after a key, in a real browser; and how soon a decision is saved.

A project of drawn photos of 1600x1200 is served by the real command and labelled by keyboard in chromium. The page
measures from the key's own time stamp to the end of the frame that paints the next photo. Target: p95 under 50 ms.

1. A quick person, four keys a second. 2. A key as soon as the frame before is painted, faster than anybody.
3. A decision from request to answer, which comes when it is on the disk.

    python benchmarks/review_speed.py [--photos 120] [--pace 0.25]
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.catalog.tables import OK
from carspotter.project.folder import create
from drawn import draw_noise, jpeg
from measure import parser, percentiles, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZE = (1600, 1200)
DISTINCT = 12
"""Pictures that are drawn; photos share them, since drawing takes longer than all the rest."""
COMMAND = """from pathlib import Path
from carspotter.cli.review import review
review(Path({!r}), person="Ann", queue="kind", task=None, count=None, seed=0, host="127.0.0.1", port=0, open_=False)"""


def make_project(folder: Path, n: int) -> None:
    """Make a project of n photos that were checked."""
    project, ok = create(folder, 'name = "speed"'), {"status": OK}
    pictures = [jpeg(draw_noise(*SIZE, seed=seed)) for seed in range(DISTINCT)]
    names = [f"{number // 6}/{number}" for number in range(n)]
    for number, name in enumerate(names):
        path = folder / "photos" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures[number % DISTINCT])
    with project.catalog() as catalog, catalog.writer():
        catalog.append("listing_photos", [{"photo_id": name, "ad_id": name.partition("/")[0], **ok} for name in names])
        catalog.append("files", [{"photo_id": name, "path": f"photos/{name}.jpg", **ok} for name in names])
        catalog.append("checks", [{"photo_id": name, "width": SIZE[0], "height": SIZE[1], **ok} for name in names])


@contextmanager
def review(folder: Path) -> Iterator[str]:
    """Run the review in a process of its own; give its address."""
    process = subprocess.Popen([sys.executable, "-c", COMMAND.format(str(folder))], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2].rstrip("/;")
    finally:
        process.terminate()
        process.wait()


def label(page: Any, n: int, *, pace_s: float | None) -> list[float]:
    """Press a key n times, at a pace or as soon as the photo before is painted; return the milliseconds of each."""
    measured = "() => performance.getEntriesByName('next photo').map(decision => decision.duration)"
    before = len(page.evaluate(measured))
    for number in range(n):
        page.keyboard.press("eido"[number % 4])
        if pace_s:
            time.sleep(pace_s)
        while len(page.evaluate(measured)) < before + number + 1:
            time.sleep(0.002)
    return [float(value) for value in page.evaluate(measured)[before:]]


def saving(page: Any) -> list[float]:
    """Return the milliseconds that the page's decisions took."""
    decisions = "() => performance.getEntriesByType('resource').map(decision => [decision.name, decision.duration])"
    return [float(taken) for name, taken in page.evaluate(decisions) if name.endswith("/v1/decisions")]


def measure(n: int, pace_s: float) -> list[dict[str, Any]]:
    """Label all photos of a fresh project, half at a pace, half as fast as can be."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        make_project(Path(folder) / "project", n)
        with review(Path(folder) / "project") as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            page = browser.new_page(viewport={"width": 1360, "height": 820})
            page.goto(address)
            page.wait_for_selector("#photo[data-photo]")
            time.sleep(2)  # as a person looks at the first photo
            half = n // 2 - 1
            rows = [row("next photo, at a pace", label(page, half, pace_s=pace_s), target="p95 < 50")]
            rows.append(row("next photo, at once", label(page, half, pace_s=None)))
            rows.append(row("decision saved", saving(page)))
            browser.close()
    return rows


def row(what: str, milliseconds: list[float], **more: Any) -> dict[str, Any]:
    """Return a row of the result."""
    values = np.asarray(milliseconds)
    return {"what": what, **percentiles(milliseconds), "max_ms": round(float(values.max()), 1), **more}


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--photos", type=int, default=120)
    arguments.add_argument("--pace", type=float, default=0.25, help="seconds between keys")
    options = arguments.parse_args()
    if CHROMIUM is None:
        raise SystemExit("no chromium on this machine")
    conditions = {"photos": options.photos, "pixels": f"{SIZE[0]}x{SIZE[1]}", "seconds between keys": options.pace}
    report("review speed", measure(options.photos, options.pace), as_json=options.json, conditions=conditions)


if __name__ == "__main__":
    main()
