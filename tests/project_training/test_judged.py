"""What a training says of its test photos: how many are right, and how many of those that its network had not seen."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra `train`")

from carspotter.evaluation.metrics import BY_CHANCE
from carspotter.evaluation.predictions import Predictions
from carspotter.project_training.train import judged
from carspotter.taxonomy import Taxon, Taxonomy

TAXONOMY = Taxonomy((Taxon(make="Audi", model="A4"), Taxon(make="Audi", model="A6")))


def table(seen: list[str]) -> Predictions:
    """Answer ten photos of the first class; the last two are wrong."""
    right = np.array([True] * 8 + [False] * 2)
    return Predictions(
        name="trained",
        taxonomy=TAXONOMY,
        photos=np.arange(10).astype(str),
        probabilities=np.where(right[:, None], [[0.9, 0.1]], [[0.2, 0.8]]).astype(np.float32),
        truth=np.zeros(10, np.int64),
        about={"seen": np.array(seen)} if seen else {},
    )


def test_photos_that_the_network_had_learnt_from_are_counted_apart() -> None:
    lines = judged(table(["yes"] * 6 + ["no"] * 4), None)
    assert lines[0].startswith("80.0% of 10 test photos right")
    assert lines[1] == f"the network seems to have learnt from 6 of them before this training ({BY_CHANCE})"
    assert lines[2].startswith("of the other 4 50.0% are right (")


@pytest.mark.parametrize("seen", [[], ["no"] * 10])
def test_where_none_was_seen_nothing_is_said(seen: list[str]) -> None:
    assert len(judged(table(seen), None)) == 1


def test_where_all_were_seen_no_figure_is_made_of_none() -> None:
    assert len(judged(table(["yes"] * 10), None)) == 2
