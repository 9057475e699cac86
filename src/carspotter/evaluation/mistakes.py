"""Confused pairs, the worst mistakes, classes to merge and rows for a person to judge, from a prediction table.

It says where a model is wrong and what to do about it; how often is said by `metrics`. It opens no photo.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from carspotter.csv_rows import csv_text, parse_csv, read_csv, set_aside
from carspotter.errors import EvaluationError
from carspotter.evaluation.intervals import Share
from carspotter.evaluation.metrics import names_at
from carspotter.evaluation.predictions import UNLABELLED, Depth, Predictions
from carspotter.storage import replacing
from carspotter.storage_errors import refusal
from carspotter.taxonomy import LEVELS, Level, Taxon

logger = logging.getLogger(__name__)
DEEPEST_FIRST: tuple[Depth, ...] = ("class", *reversed(LEVELS))
CANDIDATES = 5
CONFUSED = 0.05
"""The least share of each class's photos that must surely go to the other before a merge is suggested."""
WORDS = ("yes", "no", "unsure")
KEY = ("photo", "level", "truth", "answer")
COLUMNS = ("photo", "path", "level", "truth", "answer", "probability", "truth_probability", "decidable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """How often photos of `truth` are answered `answer`, the share of the class, and how sure such answers are."""

    truth: str
    answer: str
    share: Share
    mean_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A wrong answer at the deepest level where the photo's truth is known; `position` is its row."""

    position: int
    photo: str
    level: Depth
    truth: str
    answer: str
    answer_index: int
    probability: float
    truth_probability: float
    candidates: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """Two classes that are taken for each other, and in how many of the photos of each."""

    first: str
    second: str
    first_as_second: Share
    second_as_first: Share

    @property
    def photos(self) -> int:
        """Return how many photos of either are taken for the other."""
        return self.first_as_second.count + self.second_as_first.count

    def __str__(self) -> str:
        share = self.photos / (self.first_as_second.total + self.second_as_first.total)
        return f"{self.first} and {self.second} are taken for each other in {share:.0%} ({self.photos} photos): merge?"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSuggestion(ConfusedPair):
    """Two classes that a model cannot tell apart, and the deepest `level` they share (None: not even a make).

    `becomes` is the taxon's name there, None where it would be no more than a make, which other classes share too.
    `gain` of the photos would be right if the two were one class.
    """

    level: Level | None
    becomes: str | None
    gain: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Count what a person wrote in the column `decidable`; `decidable` is the share of yes among yes, no, unsure."""

    yes: int
    no: int
    unsure: int
    empty: int

    @property
    def decidable(self) -> Share:
        """Return the share of judged photos that a person can decide."""
        return Share(count=self.yes, total=self.yes + self.no + self.unsure)


def confusions(predictions: Predictions, depth: Depth = "class") -> tuple[Confusion, ...]:
    """Return the pairs that are confused, the most frequent first, among equals the one that errs more surely."""
    truth, answer, best = _answers(predictions, depth)
    names = names_at(predictions.taxonomy, depth)
    support = np.bincount(truth, minlength=len(names))
    wrong = truth != answer
    pairs, inverse, counts = np.unique(
        # A pair as one number: 2000 classes have 4 million pairs, most of which never occur.
        truth[wrong] * len(names) + answer[wrong],
        return_inverse=True,
        return_counts=True,
    )
    # How sure the model was on average: a confusion that it is sure of will pass any threshold.
    means = np.bincount(inverse, weights=best[wrong], minlength=len(pairs)) / np.maximum(counts, 1)
    return tuple(
        Confusion(
            truth=names[pairs[i] // len(names)],
            answer=names[pairs[i] % len(names)],
            share=Share(count=int(counts[i]), total=int(support[pairs[i] // len(names)])),
            mean_probability=float(means[i]),
        )
        # The last key counts most; the pair's number makes the order the same in every run.
        for i in np.lexsort((pairs, -means, -counts))
    )


def mistakes(predictions: Predictions) -> tuple[Mistake, ...]:
    """Return the wrong answers, the surest first; each is judged at the deepest level where its truth is known."""
    found: list[Mistake] = []
    left = np.ones(len(predictions), dtype=bool)
    for depth in DEEPEST_FIRST:
        # Each photo is judged once, at the deepest level that its label reaches.
        here = left & (predictions.truth_at(depth) != UNLABELLED)
        left &= ~here
        found += _mistakes_at(predictions, depth, np.flatnonzero(here))
    return tuple(sorted(found, key=lambda mistake: (-mistake.probability, mistake.photo)))


def worst_mistakes(predictions: Predictions, n: int = 24, *, per_pair: int | None = None) -> tuple[Mistake, ...]:
    """Return the n mistakes of which the model is surest, at most `per_pair` of one truth and answer."""
    chosen: list[Mistake] = []
    seen: Counter[tuple[str, str]] = Counter()
    for mistake in mistakes(predictions):
        pair = (mistake.truth, mistake.answer)
        # Counted before the limit, since a pair's later mistakes are less sure than those already chosen.
        seen[pair] += 1
        if len(chosen) < n and (per_pair is None or seen[pair] <= per_pair):
            chosen.append(mistake)
    return tuple(chosen)


def sample_mistakes(predictions: Predictions, n: int, *, seed: int = 0) -> tuple[Mistake, ...]:
    """Draw n mistakes at random, all alike likely: a share counted on them holds for all mistakes, unlike the worst."""
    found = mistakes(predictions)
    # Without replacement, so that a person judges no photo twice.
    chosen = np.random.default_rng(seed).permutation(len(found))[:n]
    return tuple(found[i] for i in sorted(chosen))


def confused_pairs(counts: Mapping[tuple[str, str], int], *, threshold: float = CONFUSED) -> list[ConfusedPair]:
    """Return the pairs of classes of which each is taken for the other in more than a share `threshold` of its photos.

    `counts` maps truth and answer to photos, right answers among them. Both shares' lower ends (Wilson, 95 %) must be
    above the threshold: few photos suggest nothing, nor do errors that fall anywhere, nor a confusion of one way, which
    is a flaw of labels or crops. That many photos make a small share significant is no reason to merge. The pair that
    costs most photos comes first.
    """
    photos: Counter[str] = Counter()
    for (truth, _), count in counts.items():
        # A share is of all photos of the class, right ones among them.
        photos[truth] += count
    pairs = [
        ConfusedPair(
            first=one,
            second=two,
            first_as_second=Share(count=count, total=photos[one]),
            second_as_first=Share(count=counts.get((two, one), 0), total=photos[two]),
        )
        for (one, two), count in counts.items()
        # Each pair once. A class without photos cannot be confused the other way round, so that nothing is known.
        if one < two and photos[two]
    ]
    # The weaker side decides: a merge is worth it only where each class is confused with the other.
    found = [pair for pair in pairs if min(pair.first_as_second.low, pair.second_as_first.low) > threshold]
    return sorted(found, key=lambda pair: (-pair.photos, pair.first, pair.second))


def merge_suggestions(predictions: Predictions, *, threshold: float = CONFUSED) -> tuple[MergeSuggestion, ...]:
    """Return what the confused pairs of classes (`confused_pairs`) would become, and what merging them would gain."""
    truth, answer, _ = _answers(predictions, "class")
    names = names_at(predictions.taxonomy, "class")
    taxon = dict(zip(names, predictions.taxonomy.classes, strict=True))
    counts = Counter((names[a], names[b]) for a, b in zip(truth.tolist(), answer.tolist(), strict=True))
    found = []
    for pair in confused_pairs(counts, threshold=threshold):
        level = shared_level(taxon[pair.first], taxon[pair.second])
        # Merged at the make, the two would be one with every other model of it.
        becomes = taxon[pair.first].name(level) if level and level != "make" else None
        # Of all photos, so that gains of different pairs can be added up.
        gain = Share(count=pair.photos, total=len(truth))
        suggestion = MergeSuggestion(
            first=pair.first,
            second=pair.second,
            first_as_second=pair.first_as_second,
            second_as_first=pair.second_as_first,
            level=level,
            becomes=becomes,
            gain=gain,
        )
        found.append(suggestion)
    return tuple(found)


def shared_level(first: Taxon, second: Taxon) -> Level | None:
    """Return the deepest level at which two classes are the same taxon, None where their makes differ."""
    found: Level | None = None
    for level in LEVELS:
        if getattr(first, level) is None or first.up_to(level) != second.up_to(level):
            continue
        found = level
    return found


def write_review(path: str | Path, rows: Iterable[Mistake], predictions: Predictions) -> Path:
    """Write mistakes as CSV, a row a photo, with an empty column `decidable` for a person: yes, no or unsure.

    The question is: can a person tell from this photo alone which it is? What a file of before says of the same
    mistake stays; one that says of others is kept beside it. Raises EvaluationError.
    """
    path = Path(path)
    said = _judged_before(path)
    paths = predictions.about.get("path")
    cells = [
        {
            "photo": row.photo,
            # A person opens the photo by its path; its name may be an id.
            "path": "" if paths is None else paths[row.position],
            "level": row.level,
            "truth": row.truth,
            "answer": row.answer,
            "probability": f"{row.probability:.4f}",
            "truth_probability": f"{row.truth_probability:.4f}",
            "decidable": said.pop((row.photo, row.level, row.truth, row.answer), ""),
        }
        for row in rows
    ]
    try:
        if said:
            _set_aside(path)
        with replacing(path) as temporary:
            temporary.write_text(csv_text(cells, COLUMNS), encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"review {path} cannot be written: {refusal(error)}") from error
    return path


def _judged_before(path: Path) -> dict[tuple[str, ...], str]:
    """Return what a person has filled in, by photo, level, truth and answer."""
    if not path.is_file():
        return {}
    try:
        rows = parse_csv(path.read_text(encoding="utf-8-sig"), COLUMNS, error=EvaluationError, where=f"review {path}")
    except (OSError, UnicodeDecodeError, EvaluationError):  # somebody's work may be in it all the same
        _set_aside(path)
        return {}
    return {tuple(row[name] for name in KEY): row["decidable"] for _, row in rows if row["decidable"]}


def _set_aside(path: Path) -> None:
    """Keep a file that a person filled in beside the next one."""
    words = "what is filled in in %s does not fit these mistakes, or cannot be read; it is kept as %s"
    logger.warning(words, path, set_aside(path, "filled").name)


def read_review(path: str | Path) -> Review:
    """Count a filled review; case and blanks do not matter. Raises EvaluationError for any other word."""
    # The empty word counts what is not judged yet, which is no part of the share.
    counts = dict.fromkeys(("", *WORDS), 0)
    for number, line in read_csv(Path(path), ("decidable",), error=EvaluationError, where=f"review {path}"):
        word = line["decidable"].casefold()
        if word not in counts:
            raise EvaluationError(f"review {path} line {number}: decidable is {word!r}; allowed: {', '.join(WORDS)}")
        counts[word] += 1
    return Review(yes=counts["yes"], no=counts["no"], unsure=counts["unsure"], empty=counts[""])


def _answers(
    predictions: Predictions, depth: Depth
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return truth, answer and the answer's probability of the photos whose truth is known."""
    truth = predictions.truth_at(depth)
    known = truth != UNLABELLED
    # Of a deeper label the levels above are known, too, so that these are all photos with a truth here.
    p = predictions.at(depth)[known]
    return truth[known], p.argmax(1), p.max(1).astype(np.float64)


def _mistakes_at(predictions: Predictions, depth: Depth, rows: npt.NDArray[np.intp]) -> list[Mistake]:
    names = names_at(predictions.taxonomy, depth)
    truth = predictions.truth_at(depth)
    p = predictions.at(depth)
    found = []
    for row in rows[~predictions.right_at(depth)[0][rows]].tolist():
        # Stable: of equal probabilities the first is the answer, as `argmax` has it.
        ranked = np.argsort(-p[row], kind="stable")[:CANDIDATES].tolist()
        found.append(
            Mistake(
                position=row,
                photo=str(predictions.photos[row]),
                level=depth,
                truth=names[truth[row]],
                answer=names[ranked[0]],
                answer_index=ranked[0],
                probability=float(p[row, ranked[0]]),
                truth_probability=float(p[row, truth[row]]),
                candidates=tuple((names[i], float(p[row, i])) for i in ranked),
            )
        )
    return found
