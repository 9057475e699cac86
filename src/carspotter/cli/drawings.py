"""Predictions in, annotated pictures on disk out: chooses the file names, never that of a photo given as input."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from carspotter import storage
from carspotter.cli.inputs import STDIN, Source
from carspotter.errors import CarspotterError

if TYPE_CHECKING:
    from carspotter.records import Prediction

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
QUALITY = 90  # of JPEG and WebP: letters keep sharp edges


@dataclass(slots=True, kw_only=True)
class Drawings:
    """Write one picture a photo, into a folder or, for a single photo, under the name given."""

    out: Path
    is_file: bool
    taken: set[Path] = field(default_factory=set)

    @classmethod
    def plan(cls, out: Path, sources: Sequence[Source]) -> Drawings:
        """Decide between file and folder before any photo is read; raises typer.BadParameter where neither can be."""
        inputs = {Path(s.name).resolve() for s in sources if s.name != STDIN and not storage.is_url(s.name)}
        is_file = len(sources) == 1 and out.suffix.lower() in FORMATS and not out.is_dir()
        if is_file and out.resolve() in inputs:
            raise typer.BadParameter(f"--draw {out}: this is the photo itself; choose another name")
        if not is_file and out.exists() and not out.is_dir():
            raise typer.BadParameter(f"--draw {out}: this is a file; {len(sources)} photos need a folder")
        return cls(out=out, is_file=is_file, taken=inputs)

    def write(self, source: Source, prediction: Prediction) -> Path | None:
        """Draw a photo and return where; a photo that cannot be read again is one line on stderr and None."""
        from carspotter.pixels import decode
        from carspotter.recognition.drawing import draw

        target = self._target(source)
        try:
            photo = source.photo
            # Read again: the recogniser keeps a photo only as large as its networks need, and only for a batch.
            data = photo if isinstance(photo, bytes) else storage.read(photo)
            picture = draw(decode(data).pixels, prediction)
            encoded = io.BytesIO()
            picture.save(encoded, FORMATS[target.suffix.lower()], quality=QUALITY)
            storage.write(str(target), encoded.getvalue())
        except CarspotterError as error:
            typer.echo(f"carspotter: {source.name} was not drawn: {error}", err=True)
            return None
        return target

    def _target(self, source: Source) -> Path:
        """Name the picture; photos of the same name from different folders get a number."""
        if self.is_file:
            return self.out
        number = 1
        while (target := self.out / f"{source.stem}{'' if number == 1 else f'-{number}'}.jpg").resolve() in self.taken:
            number += 1
        self.taken.add(target.resolve())
        return target
