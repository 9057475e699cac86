"""The prediction table: what one model says of labelled photos, the only thing that an evaluation reads.

In and out: a Parquet file with a row a photo, its truth at each level as far as it is labelled, and the probability of
every class; the taxonomy stands in the file's metadata. Whoever runs a network writes it; no figure is computed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from carspotter.errors import EvaluationError, MissingExtraError, TaxonomyError
from carspotter.storage import replacing
from carspotter.storage_errors import refusal
from carspotter.taxonomy import LEVELS, Level, Taxonomy

FORMAT = 1
UNLABELLED = -1
"""Stands for a truth that is not known."""

Depth = Literal["class", "make", "model", "generation", "year"]
DEPTHS: tuple[Depth, ...] = ("class", *LEVELS)
"""The class itself, which may be finer than its year by a body, and the levels above it."""

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Texts = npt.NDArray[np.str_]

_META = b"carspotter.predictions"
_OWN = ("photo", "truth", *(f"truth_{level}" for level in LEVELS), "probabilities")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """A model's answers to n photos of a taxonomy with c classes.

    `photos` (n,) names each; `probabilities` (n, c) are calibrated and sum to 1; `truth` (n,) is the class, -1 where it
    is not labelled; `levels[level]` (n,) is the truth in `taxonomy.names(level)`, which may be known where the class is
    not, -1 otherwise. `about` are further columns (n,) of text, "" where unknown: path, ad_id, viewpoint, box
    ("x1 y1 x2 y2" in pixels of the photo); a column `group` names photos that vary together. `attribute` is the name
    of what the classes are words of, such as `viewpoint`: no level lies above them. Raises EvaluationError for arrays
    that do not fit together.
    """

    name: str
    taxonomy: Taxonomy
    photos: Texts
    probabilities: Floats
    truth: Ints
    levels: Mapping[Level, Ints] = field(default_factory=dict)
    about: Mapping[str, Texts] = field(default_factory=dict)
    attribute: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "photos", np.asarray(self.photos, dtype=str))
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities, dtype=np.float32))
        object.__setattr__(self, "truth", np.asarray(self.truth, dtype=np.int64))
        levels = {level: self._level(level, self.levels.get(level)) for level in LEVELS}
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "about", {name: np.asarray(texts, dtype=str) for name, texts in self.about.items()})
        self._check()

    def __len__(self) -> int:
        return len(self.photos)

    def take(self, chosen: npt.NDArray[Any]) -> Predictions:
        """Keep the photos that a mask (n,) or positions (m,) choose, in that order."""
        return Predictions(
            name=self.name,
            taxonomy=self.taxonomy,
            photos=self.photos[chosen],
            probabilities=self.probabilities[chosen],
            truth=self.truth[chosen],
            levels={level: truth[chosen] for level, truth in self.levels.items()},
            about={name: texts[chosen] for name, texts in self.about.items()},
            attribute=self.attribute,
        )

    def at(self, depth: Depth) -> Floats:
        """Return the probabilities (n, names) of the classes or of a level's taxa."""
        if depth == "class":
            return self.probabilities
        # Summed when asked for, not stored: a table could otherwise hold levels that contradict its classes.
        return np.asarray(self.taxonomy.sum_to(depth, self.probabilities), np.float32)

    def truth_at(self, depth: Depth) -> Ints:
        """Return the truth (n,) of the class or at a level, -1 where it is not labelled."""
        return self.truth if depth == "class" else self.levels[depth]

    def right_at(self, depth: Depth = "class") -> tuple[Bools, Bools]:
        """Return (n,) whether the likeliest answer is the truth, and (n,) whether the truth is known at all.

        Every accuracy of the project is counted from these two.
        """
        truth = self.truth_at(depth)
        # What has no label here is neither right nor wrong, and leaves the share.
        known = truth != UNLABELLED
        return (self.at(depth).argmax(1) == truth) & known, known

    def save(self, path: str | Path) -> Path:
        """Write the table under a temporary name, then rename it. Raises EvaluationError."""
        pa, pq = _pyarrow()
        columns: dict[str, Any] = {"photo": self.photos, "truth": self.truth}
        columns |= {f"truth_{level}": truth for level, truth in self.levels.items()}
        columns |= dict(self.about)
        # A list of fixed size: each value stands once, without the offsets of lists.
        flat = pa.array(self.probabilities.ravel())
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, self.probabilities.shape[1])
        said = {"format": FORMAT, "name": self.name, "taxonomy": self.taxonomy.to_dict()}
        said |= {"attribute": self.attribute} if self.attribute else {}
        table = pa.table(columns).replace_schema_metadata({_META: json.dumps(said, ensure_ascii=False)})
        path = Path(path)
        try:
            # By a name, pyarrow reaches only files whose names are UTF-8.
            with replacing(path) as temporary, temporary.open("wb") as file:
                pq.write_table(table, file, compression="zstd")
        except OSError as error:
            raise EvaluationError(f"predictions {path} cannot be written: {refusal(error)}") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Read a table. Raises EvaluationError for any other file."""
        _, pq = _pyarrow()
        try:
            with Path(path).open("rb") as file:
                # In this thread alone: a library's threads that outlive the program's end may abort it there.
                table = pq.ParquetFile(file, pre_buffer=False).read(use_threads=False)
        except (OSError, ValueError) as error:
            raise EvaluationError(f"predictions {path} cannot be read: {str(error).splitlines()[0]}") from error
        said = (table.schema.metadata or {}).get(_META)
        if said is None:
            raise EvaluationError(f"{path} is Parquet, but no prediction table; `carspotter evaluate` writes one")
        content = json.loads(said)
        if content.get("format") != FORMAT:
            raise EvaluationError(f"{path}: format is {content.get('format')!r}; this version reads {FORMAT}")
        return cls._from_table(table, content, str(path))

    @classmethod
    def _from_table(cls, table: Any, content: Mapping[str, Any], where: str) -> Predictions:
        missing = [name for name in _OWN if name not in table.column_names]
        if missing:
            raise EvaluationError(f"{where} lacks the column {missing[0]!r}; write it again")
        try:
            taxonomy = Taxonomy.from_dict(content["taxonomy"])
        except TaxonomyError as error:
            raise EvaluationError(f"{where}: {error}") from error
        flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return cls(
            name=content["name"],
            taxonomy=taxonomy,
            photos=np.array(table["photo"].to_pylist(), dtype=str),
            probabilities=flat.reshape(table.num_rows, len(taxonomy)),
            truth=table["truth"].to_numpy(),
            levels={level: table[f"truth_{level}"].to_numpy() for level in LEVELS},
            about={
                name: np.array(table[name].to_pylist(), dtype=str) for name in table.column_names if name not in _OWN
            },
            attribute=str(content.get("attribute", "")),
        )

    def _level(self, level: Level, given: Any) -> Ints:
        """Take the truth of a level from the class where that is known, else what was given."""
        # One place more than there are classes: a truth of -1 reads the last one, which is UNLABELLED.
        of_class = np.append(self.taxonomy.index(level), UNLABELLED)[self.truth].astype(np.int64)
        if given is None:
            return of_class
        return np.where(self.truth >= 0, of_class, np.asarray(given, dtype=np.int64))

    def _check(self) -> None:
        n, c = len(self.photos), len(self.taxonomy)
        if self.probabilities.shape != (n, c) or self.truth.shape != (n,):
            raise EvaluationError(
                f"predictions {self.name}: {n} photos of {c} classes, but probabilities of {self.probabilities.shape} "
                f"and truth of {self.truth.shape}"
            )
        odd = [name for name, texts in self.about.items() if texts.shape != (n,) or name in _OWN]
        if odd:
            raise EvaluationError(f"predictions {self.name}: column {odd[0]!r} must have another name or {n} values")
        # A hundredth leaves room for sums of float16; logits given by mistake are far from 1.
        if n and not np.allclose(self.probabilities.sum(axis=1), 1, atol=1e-2):
            raise EvaluationError(f"predictions {self.name}: probabilities must sum to 1 for each photo")
        if len(np.unique(self.photos)) != n:
            raise EvaluationError(f"predictions {self.name}: a photo occurs twice; each has one row")


def same_photos(tables: Sequence[Predictions]) -> list[Predictions]:
    """Return the tables with the photos that all have, in one order. Raises EvaluationError where there are none."""
    shared = set(tables[0].photos.tolist()).intersection(*(table.photos.tolist() for table in tables[1:]))
    if not shared:
        raise EvaluationError(f"{' and '.join(table.name for table in tables)} have no photo in common")
    result = []
    for table in tables:
        # By name: row i is the same photo in each table, which paired tests need.
        order = np.argsort(table.photos, kind="stable")
        result.append(table.take(order[np.isin(table.photos[order], sorted(shared))]))
    return result


def in_common(tables: Sequence[Predictions]) -> list[Predictions]:
    """Return tables of the same classes with the photos that all have. Raises EvaluationError where truths differ."""
    first, *others = result = same_photos(tables)
    for other in others:
        if other.taxonomy.classes != first.taxonomy.classes:
            raise EvaluationError(f"{first.name} and {other.name} have different classes; compare them by level")
        odd = np.flatnonzero(other.truth != first.truth)
        if odd.size:
            said = " and ".join(_true_class(table, odd[0]) for table in (first, other))
            raise EvaluationError(
                f"{first.name} and {other.name} disagree on the truth of {odd.size} of {len(first.photos)} photos, "
                f"such as {first.photos[odd[0]]} ({said}): labels were changed between them; evaluate both bundles "
                "again on the labels of now"
            )
    return result


def _true_class(table: Predictions, at: np.intp) -> str:
    return table.taxonomy.classes[table.truth[at]].name() if table.truth[at] >= 0 else "not labelled"


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "data") from error
    return pa, pq
