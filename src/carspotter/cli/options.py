"""Options that several commands have: which networks recognize photos, and what runs them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, Literal

import typer

from carspotter.errors import MissingExtraError


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
