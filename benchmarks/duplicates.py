"""How long does it take to find near-duplicates among a million perceptual hashes?

Hashes are random, the worst case for bands, with `--copies` planted that differ by up to `--radius` bits. Out: seconds
on one thread (target: a million in under 2 minutes), the largest memory, and how many of the planted pairs were found;
then the whole of `find_duplicates`, both hashes and files' digests, on as many rows, a tenth of them copies.

    python benchmarks/duplicates.py [--hashes 1000000] [--radius 10] [--json]
"""

import hashlib
import resource
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter.photos.duplicates import find_duplicates
from carspotter.photos.near import pairs_within
from measure import parser, report


def main() -> None:
    """Measure, and print figures."""
    options = parser(__doc__)
    options.add_argument("--hashes", type=int, default=1_000_000)
    options.add_argument("--radius", type=int, default=10)
    options.add_argument("--copies", type=int, default=10_000)
    given = options.parse_args()
    random = np.random.default_rng(0)
    hashes, planted = planted_hashes(random, given.hashes, given.copies, given.radius)
    rows: list[dict[str, Any]] = []
    for radius in sorted({0, 6, given.radius}):
        start = time.perf_counter()
        pairs, _ = pairs_within(hashes, radius)
        found = {(int(a), int(b)) for a, b in pairs}
        wanted = [pair for pair, bits in planted if bits <= radius]
        rows.append(
            {
                "what": f"pairs within {radius} bits",
                "hashes": given.hashes,
                "seconds": round(time.perf_counter() - start, 1),
                "pairs": len(pairs),
                "planted found": f"{sum(pair in found for pair in wanted)} of {len(wanted)}",
                "peak MB": peak_mb(),
            }
        )
    rows.append(whole(random, hashes))
    conditions = {"planted copies": given.copies, "threads": "one in pairs_within"}
    report("duplicates", rows, as_json=given.json, conditions=conditions)


def planted_hashes(
    random: np.random.Generator, count: int, copies: int, radius: int
) -> tuple[NDArray[np.uint64], list[tuple[tuple[int, int], int]]]:
    """Return random hashes whose last `copies` differ from the first ones by 0 to `radius` bits, and those pairs."""
    hashes = random.integers(0, 2**64, count, dtype=np.uint64)
    planted = []
    for number in range(copies):
        bits = number % (radius + 1)
        flips = random.choice(64, bits, replace=False).astype(np.uint64)
        mask = np.bitwise_or.reduce(np.uint64(1) << flips) if bits else np.uint64(0)
        hashes[count - copies + number] = hashes[number] ^ mask
        planted.append(((number, count - copies + number), bits))
    return hashes, planted


def whole(random: np.random.Generator, hashes: NDArray[np.uint64]) -> dict[str, Any]:
    """Time `find_duplicates` on the columns that a build feeds it."""
    count = len(hashes)
    digests = [hashlib.sha256(str(number % (count * 9 // 10)).encode()).hexdigest() for number in range(count)]
    columns = {
        "photo_id": np.array([f"{number // 5}/{number:07}" for number in range(count)]),
        "ad_id": np.array([str(number // 5) for number in range(count)]),
        "sha256": np.array(digests),
        "phash": hashes,
        "dhash": random.integers(0, 2**64, count, dtype=np.uint64),
        "width": np.full(count, 1600),
        "height": np.full(count, 1200),
        "sharpness": random.random(count) * 1000,
        "contrast": np.full(count, 0.2),
        "status": np.full(count, "ok"),
    }
    start = time.perf_counter()
    rows = find_duplicates(columns)
    return {
        "what": "find_duplicates",
        "hashes": count,
        "seconds": round(time.perf_counter() - start, 1),
        "pairs": len(rows),
        "planted found": "-",
        "peak MB": peak_mb(),
    }


def peak_mb() -> int:
    """Return the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
