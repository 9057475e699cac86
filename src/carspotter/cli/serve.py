"""`carspotter serve` and `carspotter key`: the service, and the keys of who may ask it. Thin calls to `serving`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from carspotter.cli.options import Networks, option, require, with_options

if TYPE_CHECKING:
    from carspotter.serving.settings import ServeSettings

DEFAULT_KEYS = Path("carspotter-keys.txt")
SWITCH_S = 0.001
"""How long a worker's Python code keeps the interpreter from the loop, which may want to refuse; Python's own: 5 ms."""
CONNECTIONS = 900
"""Connections at once, under the usual limit of 1024 open files; further connections get a 503."""
TOP = 20
"""Candidates of each level that a client may ask for."""


_Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
_Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
_Keys = Annotated[Path | None, option(help="File of API keys (carspotter key NAME); without it anyone may ask.")]
_Rate = Annotated[float, typer.Option(min=0, help="Photos a second for each key; 0: no limit.")]
_Urls = Annotated[bool, typer.Option("--allow-urls", help="Read photos by URL, from public addresses only.")]
_Hosts = Annotated[list[str] | None, option(help="Host that URLs may name (.example.com: and below); repeatable.")]
_Networks = Annotated[list[str] | None, option(help="Network that is not public and yet allowed; repeatable.")]
_Feedback = Annotated[Path | None, option(help="Keep photos here whose sender says if the answer was right.")]
_Blur = Annotated[
    bool, typer.Option("--blur/--no-blur", help="Hide number plates and faces on the photos that are kept.")
]
_Cors = Annotated[list[str] | None, option(help="Origin whose pages may ask; repeatable.")]
_Root = Annotated[str, option(help="Path below which a proxy shows this, if it keeps it: /cars.", metavar="PATH")]
_Queue = Annotated[int, typer.Option(min=1, help="Photos that may wait; over that: 429.")]
_Batch = Annotated[int, typer.Option(min=1, help="Most photos in one run of the networks.")]
_Wait = Annotated[float, typer.Option(min=0, help="Milliseconds to wait for a batch to fill.")]
_Workers = Annotated[int | None, option(help="Threads that recognize; by default one a core.", min=1)]
_Timeout = Annotated[float, typer.Option(min=0.05, help="Deadline of a request in seconds.")]
_Bytes = Annotated[float, typer.Option(min=0.001, help="Largest photo in MiB.")]
_Pixels = Annotated[float, typer.Option(min=0.001, help="Largest photo in million pixels.")]
_Photos = Annotated[int, typer.Option(min=1, help="Most photos of an ad.")]
_Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where they run.")]
_Threads = Annotated[int, typer.Option(min=1, help="Threads of one run of a network.")]
_Level = Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="Least log level.")]


@with_options
def serve(
    *,
    host: _Host = "127.0.0.1",
    port: _Port = 8000,
    keys: _Keys = None,
    rate: _Rate = 0.0,
    allow_urls: _Urls = False,
    allow_host: _Hosts = None,
    allow_network: _Networks = None,
    feedback: _Feedback = None,
    blur: _Blur = True,
    cors: _Cors = None,
    root_path: _Root = "",
    queue: _Queue = 64,
    batch: _Batch = 2,
    wait_ms: _Wait = 0.0,
    workers: _Workers = None,
    timeout: _Timeout = 15.0,
    max_mib: _Bytes = 20.0,
    max_megapixels: _Pixels = 50.4,
    max_photos: _Photos = 40,
    device: _Device = "cpu",
    threads: _Threads = 1,
    networks: Networks,
    log_level: _Level = "info",
) -> None:
    """Serve the HTTP API and the web pages.

    Logs go to stderr as JSON lines; SIGTERM finishes what was accepted.
    """
    if (allow_host or allow_network) and not allow_urls:
        given = "--allow-host" if allow_host else "--allow-network"
        raise typer.BadParameter(f"{given} says which photos may be read by URL; add --allow-urls")
    require("serve", "fastapi", "uvicorn", "httptools", "prometheus_client", "python_multipart")
    from carspotter.serving.settings import MEGABYTE, ServeSettings

    try:
        settings = ServeSettings(
            keys=keys,
            rate=rate,
            allow_urls=allow_urls,
            allow_hosts=tuple(allow_host or ()),
            allow_networks=tuple(allow_network or ()),
            feedback=feedback,
            blur=blur,
            cors=tuple(cors or ()),
            queue=queue,
            batch=batch,
            wait_ms=wait_ms,
            workers=workers or 0,
            timeout_s=timeout,
            max_bytes=round(max_mib * MEGABYTE),
            max_pixels=round(max_megapixels * 1e6),
            max_photos=max_photos,
            root_path=root_path,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    recognizer = networks.open(
        device=device,
        threads=threads,
        max_concurrency=settings.n_workers,
        top=TOP,
        with_hashes=True,
        max_pixels=settings.max_pixels,
    )
    _run(settings, recognizer, host=host, port=port, level=log_level)


def key(
    name: Annotated[str, typer.Argument(help="Who the key is for.", show_default=False)],
    *,
    file: Annotated[Path, typer.Option(help="File that holds the hashes.")] = DEFAULT_KEYS,
) -> None:
    """Make an API key, print it once, and add its hash to a file."""
    from carspotter.serving.keys import add_key

    try:
        made = add_key(file, name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    print(made)
    typer.echo(f"Its hash is in {file}; the key itself is kept nowhere.", err=True)


def _run(settings: ServeSettings, recognizer: Any, *, host: str, port: int, level: str) -> None:
    from carspotter.serving.app import create_app
    from carspotter.serving.logs import log_to_stderr
    from carspotter.serving.protocol import address_of, bind

    if settings.keys is None and host not in ("127.0.0.1", "localhost", "::1"):
        typer.echo(f"carspotter: whoever reaches {host} may ask, and no key is wanted; see --keys", err=True)
    log_to_stderr(level)
    sys.setswitchinterval(SWITCH_S)
    server, bound = bind(
        create_app(settings, recognizer),
        host=host,
        port=port,
        log_config=None,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    print(f"listening on {address_of(bound)}", flush=True)
    logging.getLogger("carspotter.serve").debug("settings %s", settings)
    server.run(sockets=[bound])
