"""Write the network that the identifier began with as a bundle, to be measured by itself: a run in, a bundle out.

The run is the one that `prepare_identifier_data.py` writes. It has seen none of our photographs, as far as is known, so
that a market can be left out of what is learnt on top of it (`markets.py --leave-one-out --bundle`).

    python benchmarks/first_network.py recipes/identifier.toml --out runs/first-network
"""

from pathlib import Path

from carspotter.export.answers import raw_outputs
from carspotter.export.onnx import finish, to_onnx
from carspotter.runtime.bundle import ModelBundle
from carspotter.taxonomy import Taxonomy
from carspotter.training.checkpoint import BEST, TAXONOMY, load_checkpoint
from carspotter.training.identifier.model import build_identifier
from carspotter.training.identifier.source import preprocessing_of
from carspotter.training.identifier.task import ExportedIdentifier
from carspotter.training.recipe_file import load_recipe
from measure import parser

CARD = {
    "use": "measuring what the identifier began with",
    "licence": "MIT, Copyright (c) 2020 Spectrico; see NOTICE",
    "data": {"source": "not known"},
    "recipe": {"claim": "none: this project did not train it"},
    "figures": {"none": "RESULTS.md"},
    "retrain": "not possible",
}


def main() -> None:
    """Build, fill, export."""
    options = parser(__doc__)
    options.add_argument("recipe", type=Path)
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    recipe = load_recipe(given.recipe, ["model.heads=[]"])
    run = Path(recipe.model.start)
    taxonomy = Taxonomy.load(run / TAXONOMY)
    model = build_identifier(recipe, taxonomy, {}, blank=True)
    lacking = model.load_state_dict(load_checkpoint(run / BEST).kept, strict=False).missing_keys
    assert all("num_batches" in name for name in lacking), lacking
    network = to_onnx(ExportedIdentifier(model.eval()), recipe, raw_outputs(taxonomy))
    content, calibration = finish(network, {"temperature": 1.0, "thresholds": {}}, taxonomy=taxonomy, attributes={})
    bundle = ModelBundle(
        task="identifier",
        name="first-network",
        preprocessing=preprocessing_of(recipe.input),
        taxonomy=taxonomy,
        attributes={},
        calibration=calibration,
        card=CARD,
    )
    print(bundle.save(given.out, content).folder)


if __name__ == "__main__":
    main()
