"""Made-up prediction tables: answers drawn from a rule, so that every figure can be counted in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from carspotter.evaluation.predictions import Predictions
from carspotter.records import VIEWPOINTS
from carspotter.runtime.calibration import softmax
from carspotter.taxonomy import Taxon, Taxonomy

TAXONOMY = Taxonomy(
    tuple(
        Taxon(make=make, model=model, generation=generation, year=year)
        for make, model, generation, year in (
            ("Audi", "A4", "2001-2004", 2002),
            ("Audi", "A4", "2001-2004", 2004),
            ("Audi", "A4", "2005-2008", 2006),
            ("Audi", "TT", "1999-2006", 2003),
            ("Opel", "Corsa", None, None),
            ("Opel", "Astra", "1998-2004", 2001),
            ("Volvo", "V70", "2000-2007", 2005),
        )
    )
)


def make(
    n: int = 400,
    *,
    seed: int = 0,
    skill: float = 2.5,
    name: str = "made",
    unlabelled: float = 0.1,
    taxonomy: Taxonomy = TAXONOMY,
    ads: int = 4,
) -> Predictions:
    """Make n photos, `ads` an ad; the truth's logit is `skill` above noise, and the first two classes are confused."""
    world = np.random.default_rng(1234)  # truths do not depend on the seed: tables of two models fit together
    c = len(taxonomy)
    truth = np.repeat(world.integers(0, c, -(-n // ads)), ads)[:n]
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1, (n, c))
    logits[np.arange(n), truth] += skill
    alike = truth < 2
    logits[alike, 1 - truth[alike]] += skill
    hidden = world.random(n) < unlabelled
    makes = np.where(world.random(n) < 0.5, taxonomy.index("make")[truth], -1)
    views = np.array([*VIEWPOINTS, ""])[world.integers(0, 9, n)]
    return Predictions(
        name=name,
        taxonomy=taxonomy,
        photos=np.array([f"ad{i // ads}/{i:04}.jpg" for i in range(n)]),
        probabilities=softmax(logits),
        truth=np.where(hidden, -1, truth),
        levels={"make": makes},
        about={
            "ad_id": np.array([f"ad{i // ads}" for i in range(n)]),
            "viewpoint": views,
            "box": np.array(["10 20 150 100"] * n),
            "path": np.array([f"photos/{i:04}.jpg" for i in range(n)]),
        },
    )


@pytest.fixture(scope="session")
def made() -> Callable[..., Predictions]:
    """Give the maker of tables."""
    return make


@pytest.fixture(scope="session")
def table() -> Predictions:
    """Make one table that no test changes."""
    return make()


def hand(probabilities: Any, truth: Any, **more: Any) -> Predictions:
    """Make a table of one model a class, named A, B, C …, from its probabilities and truth."""
    p = np.asarray(probabilities, dtype=float)
    taxonomy = Taxonomy(tuple(Taxon(make=chr(65 + i), model="x") for i in range(p.shape[1])))
    photos = np.array([f"p{i:03}" for i in range(len(p))])
    given = {"name": "hand", "taxonomy": taxonomy, "photos": photos} | more
    return Predictions(probabilities=p.astype(np.float32), truth=np.asarray(truth), **given)


@pytest.fixture(scope="session")
def by_hand() -> Callable[..., Predictions]:
    """Give the maker of tables from probabilities."""
    return hand
