"""How often is the make right on real listing photographs? Ads in, the figures of the whole path out.

Finder, selection, crop, identifier and abstention, as `carspotter identify` runs them, on the exterior views of ads of
another market than the identifier learnt from. Counted are the photos whose make the taxonomy knows; how often the
product claims a make for cars of makes that it does not know is told apart.

    python benchmarks/whole_path_figures.py ../shared/data/used-car-ads [--draw FOLDER]
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from carspotter.errors import TaxonomyError
from carspotter.recognition.drawing import draw
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import Prediction
from carspotter.taxonomy import Taxonomy
from identifier_figures import share
from measure import parser, report

NOT_EXTERIOR = ("in", "d")


def main() -> None:
    """Print the figures; with `--draw` write annotated pictures to look at."""
    options = parser(__doc__)
    options.add_argument("data", type=Path, help="folder with photos.csv: path, ad_id, view, make")
    options.add_argument("--finder", type=Path)
    options.add_argument("--identifier", type=Path)
    options.add_argument("--draw", type=Path, help="write every tenth annotated photo into this folder")
    given = options.parse_args()
    recognizer = Recognizer.open(finder=given.finder, identifier=given.identifier)
    taxonomy = recognizer.identifier.bundle.taxonomy
    assert taxonomy is not None
    with (given.data / "photos.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["view"] not in NOT_EXTERIOR and row["make"]]
    predictions = list(recognizer.recognize_batch([given.data / row["path"] for row in rows]))
    makes = [known_make(taxonomy, row["make"]) for row in rows]
    if given.draw:
        write_drawings(predictions[::10], given.draw)
    conditions = {"photos": len(rows), "finder": predictions[0].bundles["finder"]}
    conditions |= {"identifier": predictions[0].bundles["identifier"]}
    report("Whole path figures", measure(predictions, makes), as_json=given.json, conditions=conditions)


def known_make(taxonomy: Taxonomy, words: str) -> str | None:
    """Give the taxonomy's make for a seller's word, None where it knows none."""
    for spelling in (words, words.replace("-", " ")):  # "mercedes-benz" and "land-rover"
        try:
            return taxonomy.find(spelling)
        except TaxonomyError:
            continue
    return None


def measure(predictions: list[Prediction], makes: list[str | None]) -> list[dict[str, Any]]:
    """Give the shares on photos of known makes, then those on photos of unknown ones."""
    known = [(p, make) for p, make in zip(predictions, makes, strict=True) if make]
    foreign = [p for p, make in zip(predictions, makes, strict=True) if not make]
    identified = [(p, make) for p, make in known if best_make(p) is not None]
    answered = [(p, make) for p, make in identified if p.vehicles[0].answer]
    right = [name_of_make(p) == make for p, make in answered]
    ads_right = np.array([best_make(p) == make for p, make in known])
    return [
        share("known make: a vehicle was identified", np.array([best_make(p) is not None for p, _ in known])),
        share("known make: make right at top-1", ads_right),
        share("known make: answered (did not abstain)", np.array([make_is_answered(p) for p, _ in known])),
        share("known make: make right where answered", np.array(right)),
        share("unknown make: answered all the same", np.array([make_is_answered(p) for p in foreign])),
    ]


def best_make(prediction: Prediction) -> str | None:
    """Give the first candidate for the make of the vehicle, None where none was identified."""
    candidates = prediction.vehicles[0].levels["make"] if prediction.vehicles else ()
    return candidates[0].name if candidates else None


def name_of_make(prediction: Prediction) -> str | None:
    """Give the make under the answer: the answer walks down inside the best make."""
    return best_make(prediction) if make_is_answered(prediction) else None


def make_is_answered(prediction: Prediction) -> bool:
    """Tell whether the product said something of the vehicle, whatever the level."""
    return bool(prediction.vehicles and prediction.vehicles[0].answer)


def write_drawings(predictions: list[Prediction], folder: Path) -> None:
    """Write annotated photos, to be looked at and thrown away: they show real people's number plates."""
    from carspotter.pixels import decode

    folder.mkdir(parents=True, exist_ok=True)
    for prediction in predictions:
        path = Path(prediction.photo)
        draw(decode(path.read_bytes()).pixels, prediction).save(folder / f"{path.parent.name}-{path.stem}.png")


if __name__ == "__main__":
    main()
