"""Does a fitted head forget makes of which it sees no photograph? A recipe in, how often their make is right out.

Thirty makes that the first network knows, each with 8 to 200 photographs, are left out of those that are learnt from;
the heads of `recipes/identifier.toml` are fitted to still features of the rest (`train.probe`), and judged on the
photographs that were left out, beside the first network's own answer. Only the heads are fitted: no backbone learns.

    python benchmarks/makes_left_out.py recipes/identifier.toml [--set train.keep=0.3]
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from carspotter.taxonomy import Taxonomy
from carspotter.training.checkpoint import TAXONOMY
from carspotter.training.identifier.model import Identifier
from carspotter.training.identifier.source import Kept
from carspotter.training.identifier.task import IdentifierTask, predict
from carspotter.training.recipe_file import load_recipe
from measure import parser, report

MAKES, FEWEST, MOST = 30, 8, 200


def main() -> None:
    """Fit, judge and print."""
    options = parser(__doc__)
    options.add_argument("recipe", type=Path)
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    given = options.parse_args()
    fixed = ["data.teachers=[]", "train.distill=0", "model.heads=[]"]
    recipe = load_recipe(given.recipe, [*given.changes, *fixed])
    torch.set_num_threads(recipe.train.threads or torch.get_num_threads())
    task = IdentifierTask(recipe)
    photos = task.photos.some()
    unfitted = IdentifierTask(load_recipe(given.recipe, [*given.changes, *fixed, "train.probe=0"]))
    first = unfitted.build_model()
    makes, of_photo = task.taxonomy.names("make"), task.levels["make"].numpy()[photos.targets]
    known = {taxon.make for taxon in Taxonomy.load(Path(recipe.model.start) / TAXONOMY).classes}
    chosen = left_out(of_photo, [name in known for name in makes])
    away = np.isin(of_photo, chosen)
    held, task.photos = photos.take(away), Kept(photos.take(~away))
    truth = of_photo[away]
    rows = [
        {"network": name, "make": f"{right(model, task.taxonomy, held.images, truth):.4f}"}
        for name, model in (("the first one", first), ("heads fitted without these makes", task.build_model()))
    ]
    conditions = {
        "makes": ", ".join(makes[index] for index in chosen),
        "photographs": len(held),
        "keep": recipe.train.keep,
    }
    report("Makes left out", rows, as_json=given.json, conditions=conditions)


def left_out(makes: npt.NDArray[np.int64], known: list[bool]) -> list[int]:
    """Return the makes to leave out, by a hash: those that the first network knows, neither rare nor common."""
    counts = np.bincount(makes[makes >= 0], minlength=len(known))
    fit = [index for index, count in enumerate(counts) if known[index] and FEWEST <= count <= MOST]
    return sorted(fit, key=lambda index: hashlib.sha256(str(index).encode()).hexdigest())[:MAKES]


def right(model: Identifier, taxonomy: Taxonomy, images: npt.NDArray[np.uint8], truth: npt.NDArray[np.int64]) -> float:
    """Return how often the likeliest make is the true one."""
    said = taxonomy.sum_to("make", predict(model, images)[0].softmax(1).numpy()).argmax(1)
    return float((said == truth).mean())


if __name__ == "__main__":
    main()
