"""Options that several commands have: the networks that recognize photos, and where the steps of a build run.

A command takes a group of options as one parameter, whose type is a dataclass; `with_options` shows its fields as
options of the command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from carspotter.cli.building import display, finish
from carspotter.errors import MissingExtraError

if TYPE_CHECKING:
    from carspotter.project.folder import Project
    from carspotter.recognition.recognizer import Recognizer


def require(extra: str, *packages: str) -> None:
    """Raise MissingExtraError for a package of an extra that is not installed, before a command has done anything."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, extra)


def option(*names: str, help: str, **more: Any) -> Any:
    """Return an option whose default is explained in its help and not by Typer."""
    return typer.Option(*names, help=help, show_default=False, **more)


FinderOption = Annotated[str | None, option(help="Folder of another finder.", metavar="BUNDLE")]
IdentifierOption = Annotated[
    str | None,
    option(help="Folder of another identifier, or of a project: the better of its own.", metavar="BUNDLE|PROJECT"),
]
AttributesOption = Annotated[
    list[str] | None,
    option("--attribute", help="Folder of an attribute of your own (carspotter train --task).", metavar="BUNDLE"),
]
EngineOption = Annotated[
    Literal["auto", "openvino", "onnxruntime", "litert"], typer.Option(help="What runs the networks.")
]
PrecisionOption = Annotated[
    Literal["float32", "bfloat16"], typer.Option(help="What they calculate in: bfloat16 is for processors with AMX.")
]
ThresholdOption = Annotated[
    float | None, option(help="Least probability of an answer; by default as calibrated.", min=0, max=1)
]
ProjectArgument = Annotated[Path, typer.Argument(help="The project's folder.")]
OnOption = Annotated[
    str,
    typer.Option("--on", metavar="WHERE", help="Where row stages run: local, ray (started here), or ray://host:port."),
]
WorkersOption = Annotated[int | None, option("--workers", min=0, help="Worker processes; by default one per core.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Which networks recognize photos, and what runs them."""

    threshold: ThresholdOption = None
    precision: PrecisionOption = "float32"
    engine: EngineOption = "auto"
    finder: FinderOption = None
    identifier: IdentifierOption = None
    attribute: AttributesOption = None

    def open(self, **more: Any) -> Recognizer:
        """Open them; `more` is what else `Recognizer.open` takes."""
        from carspotter.cli.inputs import chosen_bundle
        from carspotter.recognition.recognizer import Recognizer

        return Recognizer.open(
            finder=self.finder,
            identifier=chosen_bundle(self.identifier),
            attributes=self.attribute or (),
            precision=self.precision,
            engine=self.engine,
            threshold=self.threshold,
            **more,
        )

    def given(self) -> list[str]:
        """Return the names of the options that somebody set."""
        return [each.name for each in fields(self) if getattr(self, each.name) not in (each.default, [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where the steps of a build run, and how their results are printed."""

    on: OnOption = "local"
    workers: WorkersOption = None
    as_json: JsonOption = False

    def steps(self, project: Project, **which: Any) -> dict[str, Mapping[str, Any]]:
        """Do steps of a project and show them; `which` is what else `pipeline.build` takes."""
        from carspotter.project.pipeline import build

        with display() as watch:
            return build(project, on=self.on, workers=self.workers, watch=watch, **which)

    def finish(self, stats: Mapping[str, Mapping[str, Any]]) -> None:
        """End the command: print what its steps said for programs, and exit with `WARNED` where one had a warning."""
        finish(stats, as_json=self.as_json)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Show the fields of each parameter whose type is a dataclass as options of the command, in its place."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    @wraps(command)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{each.name: given.pop(each.name) for each in fields(group)})
        command(**given)

    shown: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        shown += _parameters(groups[name]) if name in groups else [parameter.replace(annotation=hints[name])]
    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in shown}
    return called


def _parameters(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(group)
    ]
