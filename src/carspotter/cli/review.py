"""`carspotter review`: label photos of a project or folder by keyboard, in the browser. A thin call to `review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from carspotter.cli.options import require

_EVERYWHERE = ("0.0.0.0", "::", "")


def review(
    project: Annotated[Path, typer.Argument(help="The project's folder, or a folder of photos.")] = Path(),
    *,
    person: Annotated[
        str | None, typer.Option("--person", help="Who decides; by default the name of the user.", show_default=False)
    ] = None,
    queue: Annotated[
        str, typer.Option("--queue", help="random, uncertain, kind, viewpoint, doubts or unresolved.")
    ] = "kind",
    task: Annotated[
        str | None,
        typer.Option("--task", help="What random or uncertain asks: kind, viewpoint or class.", show_default=False),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, help="Most items of a queue; 200 for a random sample.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random orders.")] = 0,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; anyone who reaches it may decide.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8765,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Review a project: label kind, viewpoint, class, doubts and words by keyboard, one key a decision.

    Of a plain folder of photos kind and viewpoint can be labelled.
    """
    if host in _EVERYWHERE:
        raise typer.BadParameter(f"--host {host!r}: name the address that people open, such as 192.168.1.5")
    require("review", "fastapi", "uvicorn", "httptools")
    from carspotter.review.app import review_app
    from carspotter.review.session import user_name

    app = review_app(
        project, person=person or user_name(), queue=queue, task=task, count=count, seed=seed, hosts=(host, f"[{host}]")
    )
    _run(app, host=host, port=port, open_=open_)


def _run(app: Any, *, host: str, port: int, open_: bool) -> None:
    from carspotter.serving.protocol import address_of, bind

    server, bound = bind(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=3)
    address = f"{address_of(bound)}/"
    typer.echo(f"Review at {address}; every decision is saved at once, Ctrl-C ends it.")
    if open_:
        typer.launch(address)
    server.run(sockets=[bound])
