"""Every exception that carspotter raises on purpose.

CarspotterError
├── ImageError         the bytes are no picture we can use
├── StorageError       a file, folder or URL cannot be read or written
├── TaxonomyError      unknown or ambiguous make, model, generation, year
├── RecipeError        a recipe has an unknown key or an impossible value
├── BundleError        a model bundle is incomplete, or not for this task
├── DetectorError      a foreign detector is unknown, damaged or answers in a strange shape
├── TrainingError      a training cannot start, go on or resume
├── SourceError        listings cannot be read from where they come
├── CatalogError       a catalogue is damaged, busy, or asked for what it does not have
├── ComputeError       a row stage cannot run: its workers die, or the cluster cannot be reached
├── LabelError         a file of words, merges or classes is wrong
├── DatasetError       a split leaks, or shards cannot be written or read
├── EvaluationError    a prediction table is wrong, or two cannot be compared
├── ProjectError       a project's settings are wrong, or a step lacks what it needs
└── MissingExtraError  an optional part is not installed

A message says what, the value received, what is allowed and what to do next, in one line. A wrong value that only our
own code can pass is a `ValueError`, outside of this tree.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Literal, get_args

ImageCode = Literal["empty", "unsupported-format", "broken", "truncated", "too-large", "unreadable"]
IMAGE_CODES: tuple[ImageCode, ...] = get_args(ImageCode)


class CarspotterError(Exception):
    """The root of the tree; `code` is the short word that programs read."""

    code: ClassVar[str] = "error"


class ImageError(CarspotterError):
    """Raised when bytes or an array are no picture we can use; `code` is one of `IMAGE_CODES`.

    `empty`: no bytes, or nothing left after a crop. `unsupported-format`: no picture, or a format outside the list.
    `broken`: damaged. `truncated`: the end is missing. `too-large`: over a limit. `unreadable`: of no usable shape.
    """

    code: ImageCode  # type: ignore[misc]  # per error here, per class elsewhere: readers see one attribute

    def __init__(self, message: str, code: ImageCode = "broken") -> None:
        super().__init__(message)
        if code not in IMAGE_CODES:
            raise ValueError(f"image error code {code!r}; allowed: {', '.join(IMAGE_CODES)}")
        self.code = code


class StorageError(CarspotterError):
    """Raised when a file, folder or URL cannot be read or written."""

    code = "storage"


class TaxonomyError(CarspotterError):
    """Raised when a make, model, generation or year is unknown or ambiguous, or a taxonomy file is wrong."""

    code = "taxonomy"


class RecipeError(CarspotterError):
    """Raised when a recipe has an unknown key or an impossible value."""

    code = "recipe"


class BundleError(CarspotterError):
    """Raised when a model bundle is incomplete, newer than this version, or not for this task."""

    code = "bundle"


class DetectorError(CarspotterError):
    """Raised when a foreign detector is unknown, damaged or answers in a shape we cannot read."""

    code = "detector"


class TrainingError(CarspotterError):
    """Raised when a training cannot start, go on or resume."""

    code = "training"


class SourceError(CarspotterError):
    """Raised when listings cannot be read from where they come: a file, a folder, a site."""

    code = "source"


class CatalogError(CarspotterError):
    """Raised when a catalogue is damaged, being built by another process, or asked for what it does not have."""

    code = "catalog"


class ComputeError(CarspotterError):
    """Raised when a row stage cannot run: its workers die at the start, or a cluster cannot be reached."""

    code = "compute"


class LabelError(CarspotterError):
    """Raised when a file of words, merges or classes is wrong."""

    code = "label"


class DatasetError(CarspotterError):
    """Raised when a split leaks, or shards cannot be written or read."""

    code = "dataset"


class EvaluationError(CarspotterError):
    """Raised when a prediction table is wrong, or two cannot be compared."""

    code = "evaluation"


class ProjectError(CarspotterError):
    """Raised when a project's settings are wrong, or a step lacks what it needs."""

    code = "project"


class MissingExtraError(CarspotterError):
    """Raised when an optional part is not installed, and how to install it."""

    code = "missing-extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed; run: pip install "carspotter[{extra}]"')
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        # An exception is pickled by its `args`, here the message alone; worker processes send errors home.
        return type(self), (self.package, self.extra)


def typed(path: object) -> str:
    """Return a path as one types it where one stands: relative where it lies below, in quotes if need be."""
    text = str(path)
    if Path(text).is_absolute():
        with suppress(OSError, ValueError):  # a working folder that was removed; a path that lies elsewhere
            text = str(Path(text).relative_to(Path.cwd()))
    return shlex.quote(text)


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word most like `word`, whatever the case, or None when none is close."""
    spellings = {candidate.casefold(): candidate for candidate in allowed}
    # 0.6 is difflib's own cutoff: one or two wrong letters in a word of six.
    matches = get_close_matches(word.casefold(), spellings, n=1, cutoff=0.6)
    return spellings[matches[0]] if matches else None


def suggestion(word: str, allowed: Iterable[str], *, limit: int = 8) -> str:
    """Return "did you mean X?" where something is near, else the list of what is allowed, for the end of a message."""
    words = list(allowed)
    near = nearest(word, words)
    if near is not None:
        return f"did you mean {near!r}?"
    rest = f" and {len(words) - limit} more" if len(words) > limit else ""
    return f"allowed: {', '.join(words[:limit])}{rest}" if words else "none is defined"
