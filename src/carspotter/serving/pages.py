"""The web pages: one frame with head and navigation, and what each page puts into it.

A page's file begins with what it adds to the head; behind its line `<!-- body: … -->`, which says where the skip link
leads, its body stands. `program.html` is what pages that ask have at their end.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from carspotter.serving import reference

WEB = Path(__file__).parent / "web"
PAGES: Mapping[str, str] = {"photo": "./", "ad": "ad", "docs": "docs"}
"""The pages, and how the navigation names each."""

_BODY = re.compile(r"<!-- body: (.+) -->\n")


def page_html(name: str) -> str:
    """Return a page of `PAGES` in its frame."""
    head, skip, body = _BODY.split(_read(name))
    link = f'<a href="{PAGES[name]}">'
    frame = _read("frame").replace(link, f'{link[:-1]} aria-current="page">')
    parts = {"<!-- head -->\n": head, "<!-- skip -->": skip, "<!-- body -->\n": body}
    parts["  <!-- program -->\n"] = _read("program")
    for mark, part in parts.items():
        frame = frame.replace(mark, part)
    return frame


def add_pages(app: FastAPI) -> None:
    """Add the pages, and the files that they name, to the service."""
    made: dict[str, str] = {}

    def route(name: str) -> Callable[[], Awaitable[HTMLResponse]]:
        async def page() -> HTMLResponse:
            if name not in made:
                made[name] = _reference(app) if name == "docs" else page_html(name)
            return HTMLResponse(made[name], headers={"cache-control": "no-cache"})

        return page

    for name, link in PAGES.items():
        path = "/" + link.removeprefix("./")
        app.add_api_route(path, route(name), include_in_schema=False, methods=["GET", "HEAD"])
    app.mount("/static", StaticFiles(directory=WEB, check_dir=False))


def _reference(app: FastAPI) -> str:
    """Make the page of the API, with the words of the OpenAPI document, which is written once."""
    words, contents = reference.html(app.openapi())
    return page_html("docs").replace("<!-- contents -->", contents).replace("<!-- reference -->", words)


def _read(name: str) -> str:
    return (WEB / f"{name}.html").read_text(encoding="utf-8")
