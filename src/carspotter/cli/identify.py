"""`carspotter identify`: photos in; a table, JSON or annotated pictures out. A thin call to `recognition`."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from carspotter.cli.options import Networks, option, with_options
from carspotter.errors import StorageError, typed

if TYPE_CHECKING:
    from carspotter.cli.drawings import Drawings
    from carspotter.cli.inputs import Source
    from carspotter.cli.remote import RemoteRecognizer
    from carspotter.recognition.recognizer import Recognizer
    from carspotter.records import Prediction


@dataclass(slots=True, kw_only=True)
class _Tally:
    """How many photos were answered, how many could not be read or drawn, and the last that was not read."""

    read: int = 0
    failed: int = 0
    undrawn: int = 0
    last: str = ""

    def count(self, prediction: Prediction) -> None:
        """Count one photo."""
        if prediction.error is None:
            self.read += 1
        else:
            self.failed += 1
            message = prediction.error.message
            # A storage error names its file or URL itself, without the secrets that a URL may hold.
            is_named = prediction.error.type == StorageError.code
            self.last = message if is_named else f"{prediction.photo}: {message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """A prediction and, where a picture was drawn, its path."""

    prediction: Prediction
    drawn: Path | None

    def to_json(self) -> str:
        content: dict[str, Any] = self.prediction.to_dict()
        if self.drawn is not None:
            content["drawn"] = str(self.drawn)
        # Escaped to ASCII: a file name may hold bytes that no encoding of the terminal can write.
        return json.dumps(content)


_Photos = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTO", help="Photos, folders, URLs, or - for a photo on standard input.", show_default=False
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object for a photo, an array for many.")]
_Jsonl = Annotated[bool, typer.Option("--jsonl", help="One JSON object a line, as soon as it is known.")]
_Draw = Annotated[
    Path | None, option(help="Write annotated pictures into this folder or, for one photo, file.", metavar="OUT")
]
_Blur = Annotated[bool, typer.Option("--blur", help="Hide number plates and faces on the pictures of --draw.")]
_Top = Annotated[int, typer.Option(min=1, help="Candidates per level.")]
_Select = Annotated[Literal["all", "largest", "center"], typer.Option(help="Which vehicles of a photo.")]
_Recursive = Annotated[bool, typer.Option(help="Look into the folders of a folder.")]
_Threads = Annotated[int | None, option(help="Threads to use; by default all cores.", min=1)]
_Detector = Annotated[str | None, option(help="Take boxes from a foreign detector.", metavar="FILE")]
_Server = Annotated[str | None, option(help="Ask this service (carspotter serve) instead.", metavar="URL")]
_Key = Annotated[str | None, option("--key", envvar="CARSPOTTER_KEY", help="API key for the service.")]


@with_options
def identify(
    photos: _Photos,
    *,
    as_json: _Json = False,
    as_jsonl: _Jsonl = False,
    draw: _Draw = None,
    blur: _Blur = False,
    top: _Top = 5,
    select: _Select = "largest",
    recursive: _Recursive = True,
    networks: Networks,
    threads: _Threads = None,
    detector: _Detector = None,
    server: _Server = None,
    key: _Key = None,
) -> None:
    """Name the vehicle on each photo.

    Says make, model, generation and year as far as it is sure, the viewpoint and the box.
    """
    from carspotter.cli.drawings import Drawings
    from carspotter.cli.inputs import gather, is_folder

    if as_json and as_jsonl:
        raise typer.BadParameter("--json and --jsonl exclude each other")
    if blur and draw is None:
        raise typer.BadParameter("--blur hides plates and faces on drawn pictures; say where these go with --draw OUT")
    is_single = len(photos) == 1 and not is_folder(photos[0])
    sources, complaints = gather(photos, recursive=recursive)
    for complaint in complaints:
        typer.echo(f"carspotter: {complaint}", err=True)
    if not sources:
        raise typer.Exit(1)
    drawings = Drawings.plan(draw, sources, blur=blur) if draw is not None else None
    own = {name: value for name, value in (("detector", detector), ("threads", threads)) if value is not None}
    recognizer: Recognizer | RemoteRecognizer
    if server is None:
        recognizer = networks.open(select=select, top=top, **own)
    else:
        _refuse_local([*networks.given(), *own])
        recognizer = _remote(server, key, select=select, top=top)
    form: _Form = "jsonl" if as_jsonl else "json" if as_json else "text"
    tally = _Tally()
    with closing(_results(recognizer, sources, drawings=drawings, tally=tally, form=form)) as results:
        _write(results, form, is_single=is_single)
    if draw is not None and form == "text" and tally.undrawn < tally.read:
        typer.echo(f"Drawn: {typed(draw)}")
    _close(tally)


_Form = Literal["text", "json", "jsonl"]


def _refuse_local(given: Sequence[str]) -> None:
    """Raise where an option is given that only this machine's own networks could obey."""
    if given:
        names = ", ".join(f"--{name}" for name in given)
        raise typer.BadParameter(f"--server excludes {names}: the service has its own")


def _remote(server: str, key: str | None, *, select: str, top: int) -> RemoteRecognizer:
    from carspotter.cli.remote import RemoteRecognizer
    from carspotter.client import Client

    try:
        client = Client(server, key=key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return RemoteRecognizer(client, select=select, top=top)


def _results(
    recognizer: Recognizer | RemoteRecognizer,
    sources: list[Source],
    *,
    drawings: Drawings | None,
    tally: _Tally,
    form: _Form,
) -> Generator[_Result, None, None]:
    from carspotter.cli.progress import watched

    with closing(recognizer.recognize_batch(source.photo for source in sources)) as predictions:
        watch = watched(predictions, len(sources), is_streaming=form != "text")
        for source, prediction in zip(sources, watch, strict=True):
            named = replace(prediction, photo=source.name)
            tally.count(named)
            drawn = drawings.write(source, named) if drawings and named.error is None else None
            tally.undrawn += drawings is not None and named.error is None and drawn is None
            yield _Result(prediction=named, drawn=drawn)


def _write(results: Iterator[_Result], form: _Form, *, is_single: bool) -> None:
    if form == "text":
        from carspotter.cli.tables import show_photo, show_photos

        predictions = (result.prediction for result in results)
        if is_single:
            show_photo(next(predictions))
        else:
            show_photos(predictions)
    elif form == "jsonl" or is_single:
        for result in results:
            print(result.to_json(), flush=True)
    else:
        _write_array(results)


def _write_array(results: Iterable[_Result]) -> None:
    """Write the array as it grows: a million photos do not wait in memory for the closing bracket."""
    separator = "[\n"
    for result in results:
        print(separator + result.to_json(), end="")
        separator = ",\n"
    print("\n]")


def _close(tally: _Tally) -> None:
    total = tally.read + tally.failed
    if total == tally.failed == 1:
        typer.echo(f"carspotter: {tally.last}", err=True)
    elif tally.failed:
        typer.echo(f"carspotter: {tally.failed} of {total} photos could not be read", err=True)
    if not tally.read:
        raise typer.Exit(1)
