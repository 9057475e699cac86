"""Compare the prediction tables of several models on the same photos, with tests and an ensemble.

Tables of different taxonomies are compared by the names of what they answer. It trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.errors import EvaluationError
from carspotter.evaluation.intervals import Estimate, Share, holm, mcnemar, paired_difference
from carspotter.evaluation.metrics import SEEN, Evaluation, evaluate, plain
from carspotter.evaluation.predictions import DEPTHS, UNLABELLED, Depth, Predictions, Texts, in_common, same_photos
from carspotter.taxonomy import Taxonomy

Bools = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float64]

GAP = 1e-6
"""Nats of log-loss that the weights of an ensemble may be away from the best ones."""
ROUNDS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Compare model b with model a on the same photos at one depth.

    `only_a` photos are right by a alone, `only_b` by b alone. `difference` is the accuracy of b less that of a. `p` is
    McNemar's, `p_holm` the same when all pairs of the comparison are tested at once.
    """

    a: str
    b: str
    depth: Depth
    photos: int
    only_a: int
    only_b: int
    difference: Estimate
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The figures of several models on the photos in common, in the order in which they were given.

    `accuracy[depth]` has a share a model, over the photos whose truth all tables know there by one name; `pairs` are
    compared at the first depth that has such photos, the class where there is one. `same_classes` says whether the
    other figures of `evaluations` speak of the same classes.
    """

    names: tuple[str, ...]
    photos: int
    same_classes: bool
    accuracy: Mapping[Depth, tuple[Share, ...]]
    evaluations: tuple[Evaluation, ...]
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the figures of each model without its curves and classes."""
        content = plain(self)
        assert isinstance(content, dict)
        for each in content["evaluations"]:
            for name in ("reliability", "classes", "viewpoints"):
                del each[name]
            for level in each["levels"]:
                del level["curve"]
        return content


def compare(tables: Sequence[Predictions]) -> Comparison:
    """Return the figures of at least two tables side by side on the photos that all have.

    Raises EvaluationError where they have no photo, or no truth, in common.
    """
    tables = _named(tables)
    # Tables of the same classes must agree on the truth; of others only the photos are matched, and names decide.
    same = all(table.taxonomy.classes == tables[0].taxonomy.classes for table in tables)
    shared = in_common(tables) if same else same_photos(tables)
    attribute = tables[0].attribute if all(table.attribute == tables[0].attribute for table in tables) else ""
    depths = ("class",) if attribute else DEPTHS
    right = {depth: _right_by_name(shared, depth) for depth in depths}
    # The first depth at which any photo can be compared: other taxonomies often share only makes and models.
    depth = next((depth for depth in depths if right[depth].shape[1]), None)
    if depth is None:
        raise EvaluationError(
            f"{' and '.join(table.name for table in tables)} have photos in common, but none whose truth they call "
            "the same at any level"
        )
    pairs = [_pair(shared[i].name, shared[j].name, depth, right[depth][[i, j]]) for i, j in _pairs(len(shared))]
    return Comparison(
        names=tuple(table.name for table in shared),
        photos=len(shared[0]),
        same_classes=same,
        accuracy={depth: tuple(Share.of(row) for row in right[depth]) for depth in depths},
        evaluations=tuple(evaluate(table) for table in shared),
        pairs=_adjusted(pairs),
    )


def ensemble(
    tables: Sequence[Predictions], weights: Sequence[float] | Weights | None = None, *, name: str = "ensemble"
) -> Predictions:
    """Return the weighted mean of several tables' probabilities on the photos in common; equal weights by default.

    It has no answers, since it has no thresholds; a photo is seen where any of the models has learnt from it. Raises
    EvaluationError for weights that are negative, not one a table, or do not sum to 1.
    """
    if not tables:
        raise EvaluationError("an ensemble needs at least one prediction table")
    # Equal weights are hard to beat without validation photos to fit others on.
    shares = np.full(len(tables), 1 / len(tables)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(tables),) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise EvaluationError(
            f"weights {np.round(shares, 4).tolist()} for {len(tables)} tables; give one a table, none negative, sum 1"
        )
    shared = in_common(list(tables))
    first = shared[0]
    # The arithmetic mean: a model that gives the truth nothing cannot veto the others, as in a product.
    mean = sum(share * table.probabilities.astype(np.float64) for share, table in zip(shares, shared, strict=True))
    return Predictions(
        name=name,
        taxonomy=first.taxonomy,
        photos=first.photos,
        probabilities=np.asarray(mean, np.float32),
        truth=first.truth,
        levels=first.levels,
        about=_about(shared),
        attribute=first.attribute,
    )


def fit_weights(tables: Sequence[Predictions]) -> Weights:
    """Return the weights (n tables,), none negative and of sum 1, with which an ensemble has the least log-loss.

    `tables` are of validation photos, which nothing was learned from. The log-loss of a mixture is convex in its
    weights, and each round of EM (Dempster et al. 1977) lowers it: a weight becomes the mean share that its model has
    in the truth's probability. Stops once the best weights cannot be better by more than 1e-6 nats, which the largest
    gradient bounds. Raises EvaluationError without a labelled photo.
    """
    shared = in_common(list(tables))
    known = shared[0].truth != UNLABELLED
    truth = shared[0].truth[known]
    if not len(truth):
        raise EvaluationError("no photo in common has a class as its truth; weights cannot be fitted")
    # Only what each model gives to the truth enters the loss: (n photos, n tables).
    rows = np.arange(len(truth))
    own = np.stack([table.probabilities[known][rows, truth].astype(np.float64) for table in shared], axis=1)
    own = np.maximum(own, 1e-12)  # a truth that no model holds possible must not stop the rest
    weights = np.full(len(shared), 1 / len(shared))
    for _ in range(ROUNDS):
        # d(mean log-likelihood)/d(weight); its mean under the weights is always 1, so that multiplying keeps their sum.
        gradient = (own / (own @ weights)[:, None]).mean(0)
        # By convexity no mixture is better than this one by more than the largest gradient less 1.
        if gradient.max() - 1 < GAP:
            break
        weights = weights * gradient
    return np.asarray(weights / weights.sum(), np.float64)


def _named(tables: Sequence[Predictions]) -> list[Predictions]:
    if len(tables) < 2:
        raise EvaluationError(f"a comparison needs at least two prediction tables, not {len(tables)}")
    names = [table.name for table in tables]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise EvaluationError(f"two prediction tables are called {twice!r}; give each a name of its own")
    return list(tables)


def _about(tables: Sequence[Predictions]) -> dict[str, Texts]:
    """Return the columns that say something of the photos themselves, and whether any model has seen each."""
    of_one_model = ("answer", "answer_level", SEEN)
    about = {name: texts for name, texts in tables[0].about.items() if name not in of_one_model}
    if all(SEEN in table.about for table in tables):
        about[SEEN] = np.where(np.any([table.about[SEEN] == "yes" for table in tables], axis=0), "yes", "no")
    return about


def _right_by_name(tables: list[Predictions], depth: Depth) -> Bools:
    """Return (tables, photos) what is right of the photos whose truth all tables know by one name at a depth."""
    truths = []
    for table in tables:
        keys = _keys(table.taxonomy, depth)
        # UNLABELLED is -1, which picks the empty text appended at the end.
        truths.append(np.append(keys, "")[table.truth_at(depth)])
    # A photo counts only where all tables name its truth alike: else the models are asked different questions.
    used = truths[0] != ""
    for truth in truths[1:]:
        used &= truth == truths[0]
    return np.stack([table.right_at(depth)[0][used] for table in tables])


def _keys(taxonomy: Taxonomy, depth: Depth) -> npt.NDArray[np.str_]:
    """Return a text for each class, or taxon of a level, that is the same in another taxonomy for the same taxon."""
    if depth != "class":
        return np.array(taxonomy.names(depth), dtype=str)
    # All parts of the taxon, since two classes may share their name and differ in the body.
    return np.array([str(sorted(taxon.to_dict().items())) for taxon in taxonomy.classes], dtype=str)


def _pairs(n: int) -> list[tuple[int, int]]:
    return list(combinations(range(n), 2))


def _pair(a: str, b: str, depth: Depth, right: Bools) -> Pair:
    # Photos that both know, or neither, say nothing of which is better (McNemar 1947).
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    p = mcnemar(only_a, only_b)
    return Pair(
        a=a,
        b=b,
        depth=depth,
        photos=right.shape[1],
        only_a=only_a,
        only_b=only_b,
        difference=paired_difference(only_a, only_b, right.shape[1]),
        p=p,
        p_holm=p,
    )


def _adjusted(pairs: list[Pair]) -> tuple[Pair, ...]:
    # Of ten models 45 pairs are tested, of which two or three would fall below 0.05 by chance.
    adjusted = holm([pair.p for pair in pairs])
    return tuple(replace(pair, p_holm=p) for pair, p in zip(pairs, adjusted, strict=True))
