"""Write annotated pictures of predictions to disk; no file name is ever that of an input photo."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from carspotter import storage
from carspotter.cli.inputs import STDIN, Source
from carspotter.errors import CarspotterError, StorageError
from carspotter.headers import SUFFIXES

if TYPE_CHECKING:
    from carspotter.records import Prediction
    from carspotter.runtime.blur import Blur

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
QUALITY = 90  # of JPEG and WebP: letters keep sharp edges


@dataclass(slots=True, kw_only=True)
class Drawings:
    """Write one picture a photo, into a folder or, for a single photo, under the name given."""

    out: Path
    is_file: bool
    taken: set[str] = field(default_factory=set)
    blur: Blur | None = None

    @classmethod
    def plan(cls, out: Path, sources: Sequence[Source], *, blur: bool = False) -> Drawings:
        """Decide between file and folder before any photo is read; raises typer.BadParameter where neither can be.

        With `blur` no picture shows a number plate or a face; raises BundleError where these cannot be found.
        """
        inputs = {path for source in sources if (path := _input(source)) is not None}
        suffix = out.suffix.lower()
        is_file = suffix in SUFFIXES and not out.is_dir()
        if len(sources) > 1 and (is_file or (out.exists() and not out.is_dir())):
            raise typer.BadParameter(f"--draw {out}: this is a file; {len(sources)} photos need a folder")
        if is_file and suffix not in FORMATS:
            raise typer.BadParameter(f"--draw {out}: no {suffix} is written; allowed: {' '.join(FORMATS)}, or a folder")
        if not is_file and out.exists() and not out.is_dir():
            raise typer.BadParameter(f"--draw {out}: this is a file of another kind; allowed: {' '.join(FORMATS)}")
        if is_file and os.path.realpath(out) in inputs:
            raise typer.BadParameter(f"--draw {out}: this is the photo itself; choose another name")
        return cls(out=out, is_file=is_file, taken=inputs, blur=blurring() if blur else None)

    def write(self, source: Source, prediction: Prediction) -> Path | None:
        """Draw a photo and return where; a photo that cannot be read again is one line on stderr and None."""
        target = self._target(source)
        try:
            photo = source.photo
            # Read again: the recogniser keeps a photo only as large as its networks need, and only for a batch.
            data = photo if isinstance(photo, bytes) else storage.read(photo)
            storage.write(str(target), _drawn(data, prediction, FORMATS[target.suffix.lower()], self.blur))
        except CarspotterError as error:
            typer.echo(f"carspotter: {source.name} was not drawn: {error}", err=True)
            return None
        return target

    def _target(self, source: Source) -> Path:
        """Name the picture; photos of the same name from different folders get a number."""
        if self.is_file:
            return self.out
        number = 1
        while True:
            target = self.out / f"{source.stem}{'' if number == 1 else f'-{number}'}.jpg"
            place = os.path.realpath(target)
            if place not in self.taken:
                self.taken.add(place)
                return target
            number += 1


def _input(source: Source) -> str | None:
    """Return where a photo given as input lies, links followed; None for what is no local file.

    Not `Path.resolve`, which raises an error for a link to itself.
    """
    try:
        path = None if source.name == STDIN else storage.local_path(source.name)
    except ValueError:
        return None
    return None if path is None else os.path.realpath(path)


def blurring() -> Blur:
    """Open what hides plates and faces; raises BundleError where its networks are missing."""
    from carspotter.runtime.blur import Blurrer

    return Blurrer.open().blur


def _drawn(data: bytes, prediction: Prediction, form: str, blur: Blur | None) -> bytes:
    from carspotter.pixels import decode
    from carspotter.recognition.drawing import draw

    pixels = decode(data).pixels
    picture = draw(pixels if blur is None else blur(pixels), prediction)
    buffer = io.BytesIO()
    try:
        picture.save(buffer, form, quality=QUALITY)
    except (OSError, ValueError) as error:  # a picture may be larger than JPEG or WebP can be
        size = f"{picture.width}x{picture.height}"
        raise StorageError(f"{form} holds no picture of {size}: {error}; .png holds any size") from error
    return buffer.getvalue()
