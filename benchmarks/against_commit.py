"""How long does one crop, one photo to find in, and one photo to its answer take against an earlier commit?

Both take turns on one core, each in a process of its own with the code and the networks of its commit. Photographs are
enlarged to 1600x1200.

    python benchmarks/against_commit.py 005858c --photos ../shared/data/car-boxes/photos
"""

import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from measure import keep_to_one_core, parser, report, timings

ROOT = Path(__file__).parent.parent
SIZE, PHOTOS = (1600, 1200), 40
WORKS = {"one crop": "identifier", "one photo to find in": "finder", "one 1600x1200 photo to its answer": ""}


def main() -> None:
    """Take turns, compare the medians of the rounds."""
    options = parser(__doc__)
    options.add_argument("commit")
    options.add_argument("--photos", type=Path, required=True)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = ["git", "-C", str(ROOT), "worktree", "add", "--detach", folder, given.commit]
        subprocess.run(command, check=True, capture_output=True)
        try:
            rounds = [[measured(Path(root), given.photos) for root in (folder, ROOT)] for _ in range(given.rounds)]
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", folder], check=True)
    report("Against " + given.commit, [row(work, rounds) for work in WORKS], as_json=given.json, conditions={})


def row(work: str, rounds: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Compare both commits in one work: the median of each round, and of the rounds' ratios."""
    before, now = ([each[side][work] for each in rounds] for side in (0, 1))
    ratios = [new / old for old, new in zip(before, now, strict=True)]
    texts = [
        " ".join(f"{value:.{digits}f}" for value in values) for values, digits in ((before, 1), (now, 1), (ratios, 2))
    ]
    return {
        "work": work,
        "before, ms": texts[0],
        "now, ms": texts[1],
        "ratio": texts[2],
        "median": round(median(ratios), 2),
    }


def measured(root: Path, photos: Path) -> dict[str, float]:
    """Measure the code below a root in a new process."""
    env = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{ROOT / 'benchmarks'}", "OMP_NUM_THREADS": "1"}
    code = f"import against_commit; against_commit.tell({str(photos.resolve())!r})"
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, stdout=subprocess.PIPE, text=True, cwd="/")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def tell(photos: str) -> None:
    """Print the median milliseconds of each work with the carspotter that is on the path."""
    from carspotter.recognition.recognizer import Recognizer
    from carspotter.runtime.bundle import shipped

    keep_to_one_core()
    found = {}
    for work, task in WORKS.items():
        if task:
            bundle = shipped(task)  # type: ignore[arg-type]
            session = bundle.open_session("onnxruntime", threads=1)
            size = bundle.preprocessing
            pixels = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3)).astype(np.uint8)
            found[work] = median(timings(lambda run=session.run, x=pixels: run(x), repeats=60, warm=3))  # type: ignore[misc]
        else:
            data = itertools.cycle([enlarged(path) for path in sorted(Path(photos).iterdir())[:PHOTOS]])
            recognizer = Recognizer.open(engine="onnxruntime", threads=1)
            found[work] = median(timings(lambda r=recognizer, d=data: r.recognize(next(d)), repeats=80, warm=3))  # type: ignore[misc]
    print(json.dumps(found))


def enlarged(path: Path) -> bytes:
    """Return a photograph as a JPEG of SIZE."""
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").resize(SIZE).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
