"""Find near-duplicates among random 64-bit hashes with imagededup, as its users do.

Runs in the peers' environment (requirements.txt), knows nothing of carspotter, and prints one JSON object: seconds.

    python peers/pairs.py HASHES.json [--distance 10]
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

from imagededup.methods import PHash


def main() -> None:
    """Read hashes (a list of 16 hexadecimal digits each) and find the pairs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("hashes", type=Path)
    options.add_argument("--distance", type=int, default=10)
    given = options.parse_args()
    known = {str(number): value for number, value in enumerate(json.loads(given.hashes.read_text()))}
    start = time.perf_counter()
    found = PHash(verbose=False).find_duplicates(encoding_map=known, max_distance_threshold=given.distance)
    seconds = time.perf_counter() - start
    pairs = sum(len(others) for others in found.values()) // 2
    print(json.dumps({"seconds": seconds, "pairs": pairs, "versions": {"imagededup": version("imagededup")}}))


if __name__ == "__main__":
    main()
