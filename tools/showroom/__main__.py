"""Write the showroom that ships: `python -m tools.showroom`, in the root of the repository; a minute of one core."""

import argparse
from pathlib import Path

from carspotter.sources.showroom import PACK
from tools.showroom.listings import ShowroomSettings
from tools.showroom.pack import pack

SHIPPED = ShowroomSettings()


def main() -> None:
    """Draw a showroom into one file."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("out", type=Path, nargs="?", default=PACK)
    options.add_argument("--ads", type=int, default=SHIPPED.ads)
    options.add_argument("--seed", type=int, default=SHIPPED.seed)
    options.add_argument("--views", type=float, default=SHIPPED.views, help="photos of the outside per ad, on average")
    options.add_argument("--flaws", type=float, default=SHIPPED.flaws, help="how often photos have flaws; 0: never")
    given = vars(options.parse_args())
    out = given.pop("out")
    data = pack(ShowroomSettings(**given))
    out.write_bytes(data)
    print(f"{out}: {len(data) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
