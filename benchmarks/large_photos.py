"""How much memory a build takes for photos of 48 megapixels: PNGs in, seconds and peak resident memory out.

python benchmarks/large_photos.py [--photos 6]
"""

import resource
import time
from multiprocessing import Process
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from carspotter.photos.checks import CheckSettings
from carspotter.project.locate import LocateSettings, LocateStage
from measure import parser, report

WIDTH, HEIGHT = 8000, 6000


def main() -> None:
    """Draw, look at them in one batch as a worker does, and print."""
    options = parser(__doc__)
    options.add_argument("--photos", type=int, default=6)
    given = options.parse_args()
    with TemporaryDirectory() as folder:
        # In a process of its own, whose memory does not count.
        drawing = Process(target=draw, args=(folder, given.photos))
        drawing.start()
        drawing.join()
        lacks = ["checks", "findings", "embeddings"]
        rows = [{"photo_id": str(n), "path": f"{n}.png", "lacks": lacks} for n in range(given.photos)]
        look = LocateStage(folder=folder, check=CheckSettings(), locate=LocateSettings())
        look.setup()
        before, start = _peak_mb(), time.perf_counter()
        found = look.process(rows)
        seconds = time.perf_counter() - start
    assert all(row["width"] == WIDTH for row in found["checks"])
    row = {"photos": given.photos, "seconds": f"{seconds:.1f}", "peak, MB": _peak_mb(), "before, MB": before}
    report("Large photos", [row], as_json=given.json, conditions={"pixels": f"{WIDTH}x{HEIGHT}", "batch": "one"})


def draw(folder: str, count: int) -> None:
    """Write PNGs of 48 megapixels, of large coloured squares."""
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        large = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
        large.save(Path(folder, f"{number}.png"))


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
