"""`carspotter models`: the model bundles at hand, with their figures and licence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def models(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of bundles; by default those that ship.", show_default=False)
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="An array of JSON objects.")] = False,
) -> None:
    """List the model bundles: name, task, size, figures and licence."""
    from carspotter.runtime.bundle import list_bundles

    bundles = list_bundles(folder)
    if as_json:
        rows = [
            {
                "name": bundle.name,
                "task": bundle.task,
                "folder": str(bundle.model_path.parent),
                "megabytes": round(bundle.model_path.stat().st_size / 1e6, 2),
                "figures": bundle.card.get("figures", {}),
                "licence": bundle.card.get("licence"),
            }
            for bundle in bundles
        ]
        print(json.dumps(rows, indent=2))
        return
    if not bundles:
        typer.echo(f"carspotter: no model bundle in {folder or 'this install'}", err=True)
        return
    from carspotter.cli.tables import show_bundles

    show_bundles(bundles)
