"""Train the network that finds number plates, and let it propose real plates for a person to confirm.

The one that ships came about in three rounds, 1240 steps, half an hour of one core (RESULTS.md):

    python -m tools.plates train first.onnx --cars CARS --others OTHERS --steps 545
    python -m tools.plates propose first.onnx CARS --out found.csv --sheets sheets
    python -m tools.plates train second.onnx --cars CARS --others OTHERS --boxes found.csv \\
        --start first.pt --steps 412 --rate 0.002
    python -m tools.plates propose second.onnx CARS --out found.csv --sheets sheets
    python -m tools.plates train plates.onnx --cars CARS --others OTHERS --boxes found.csv \\
        --start second.pt --steps 280 --rate 0.0025
    python benchmarks/plates.py boxes.csv --network plates.onnx

Between the rounds a person deletes the lines of `found.csv` that are no plates, and those of photos with a plate that
was not found: 138 plates stayed of the first proposals, 361 of the second. CARS and OTHERS are folders of photographs,
of cars from outside and of anything without plates. Measure on photographs of other cars.
"""

from __future__ import annotations

import argparse
import csv
import logging
from pathlib import Path
from random import Random
from typing import Any

import torch

from tools.plates.drawing import fonts_of
from tools.plates.network import PlateFinder, write_onnx
from tools.plates.patches import confirmed, scenes_of
from tools.plates.proposals import COLUMNS, propose, write_sheets
from tools.plates.training import Pool, Recipe, train

USUAL = Recipe()
MOST_CARS, MOST_OTHERS = 500, 250


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and do what it says."""
    given = _options().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(given.threads)
    _train(given) if given.command == "train" else _propose(given)


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=1)
    commands = options.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train on drawn plates, and on confirmed ones")
    training.add_argument("out", type=Path, help="the network, .onnx; its weights go beside it, .pt")
    training.add_argument("--cars", type=Path, required=True, help="folder of photographs of cars")
    training.add_argument("--others", type=Path, required=True, help="folder of photographs without plates")
    training.add_argument("--boxes", type=Path, help="real plates that a person confirmed: path,x1,y1,x2,y2")
    training.add_argument("--start", type=Path, help="weights to begin with, .pt")
    training.add_argument("--fonts", type=Path, help="folder of TrueType fonts; without it Pillow's own")
    training.add_argument("--most", type=int, default=MOST_CARS, help="photographs of cars in memory")
    for name in ("steps", "rate", "batch", "seed"):
        value: Any = getattr(USUAL, name)
        training.add_argument(f"--{name}", type=type(value), default=value)
    proposing = commands.add_parser("propose", help="list likely plates on photographs, for a person to confirm")
    proposing.add_argument("network", type=Path)
    proposing.add_argument("photos", type=Path)
    proposing.add_argument("--out", type=Path, required=True, help="the table of likely plates")
    proposing.add_argument("--sheets", type=Path, help="folder of pictures of them, numbered as the table's lines")
    return options


def _train(given: argparse.Namespace) -> None:
    random = Random(given.seed)
    cars = scenes_of(given.cars, at_most=given.most, random=random, is_open=True)
    others = scenes_of(given.others, at_most=MOST_OTHERS, random=random, is_open=False)
    pools = [Pool(scenes=cars, share=0.6), Pool(scenes=others, share=0.4)]
    if given.boxes:
        # Confirmed photos also teach what is a lamp; where there may be an unknown plate, no sure answer is punished.
        shares = ((confirmed(given.boxes), 0.6), (cars, 0.12), (others, 0.28))
        pools = [Pool(scenes=scenes, share=share) for scenes, share in shares]
    torch.manual_seed(given.seed)  # of the first weights
    network = PlateFinder()
    if given.start:
        network.load_state_dict(torch.load(given.start, weights_only=True))
    recipe = Recipe(steps=given.steps, rate=given.rate, batch=given.batch, seed=given.seed)
    train(network, pools, recipe, fonts=fonts_of(given.fonts))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), given.out.with_suffix(".pt"))
    write_onnx(network, given.out)


def _propose(given: argparse.Namespace) -> None:
    found = propose(given.network, given.photos)
    with given.out.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *((path, *map(round, box.to_list())) for path, box in found)])
    if given.sheets:
        write_sheets(found, given.sheets)
    print(f"{given.out}: {len(found)} likely plates; delete the lines that are none, and photos with one not listed")


if __name__ == "__main__":
    main()
