"""`carspotter browser`: a static site whose page recognises photos in the visitor's browser. Thin call to `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carspotter.cli.inputs import chosen_bundle
from carspotter.cli.options import FinderOption, IdentifierOption


def browser(
    out: Annotated[Path, typer.Argument(help="Folder to write the site into; an older site there is replaced.")],
    *,
    finder: FinderOption = None,
    identifier: IdentifierOption = None,
) -> None:
    """Write a static site that recognises photos in the visitor's browser; the runtime comes from npm."""
    from carspotter.export.browser import build_site, cache_folder
    from carspotter.runtime.bundle import ModelBundle, shipped

    named = chosen_bundle(identifier)
    site = build_site(
        out,
        finder=shipped("finder") if finder is None else ModelBundle.load(finder),
        identifier=shipped("identifier") if named is None else ModelBundle.load(named),
        cache=cache_folder() / "browser",
    )
    typer.echo(str(site.folder))
    typer.echo(
        f"carspotter: a visitor fetches {site.download_bytes / 1e6:.1f} MB once. Look at it: "
        f"python -m http.server --bind 127.0.0.1 --directory {site.folder}",
        err=True,
    )
