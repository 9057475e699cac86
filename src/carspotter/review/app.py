"""The review as a web page: an application that asks one person about a project or folder and takes decisions.

It is for one person at their own machine: it answers only under the names it was given (another site's page cannot
reach it by a name that it makes point here), takes decisions only from its own page, and shows a photo by its id alone.
It decides and queues nothing itself; the session does.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from carspotter.errors import CarspotterError, CatalogError, ImageError, LabelError, ProjectError, StorageError
from carspotter.project.folder import Project
from carspotter.review.decisions import TASKS
from carspotter.review.relearn import Relearning
from carspotter.review.session import ReviewSession, Work
from carspotter.serving.gate import SAFETY
from carspotter.serving.problems import ProblemError, install, tell

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MOST_BYTES = 16_384
"""Of a decision, which has some 300."""
MOST_ITEMS = 500

_FILES = {
    "/": ("review.html", "text/html; charset=utf-8"),
    "/review.css": ("review.css", "text/css; charset=utf-8"),
    "/review.js": ("review.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {**SAFETY, "cross-origin-resource-policy": "same-origin"}
_STATUS: Mapping[type[CarspotterError], int] = {
    LabelError: 422,
    ProjectError: 422,
    ImageError: 422,
    CatalogError: 409,
    StorageError: 500,
}


def review_app(
    place: Project | str | Path,
    *,
    person: str,
    queue: str = "kind",
    task: str | None = None,
    count: int | None = None,
    seed: int = 0,
    hosts: Collection[str] = (),
) -> FastAPI:
    """Make the application of one person's review; `hosts` are names beside the loopback ones that it answers under.

    `queue`, `task`, `count` and `seed` are what the page begins with. Raises ProjectError, CatalogError, LabelError.
    """
    session = ReviewSession(place, person=person, count=count, seed=seed)
    session.query(queue, task)
    app = FastAPI(title="carspotter review", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.token, app.state.begin = secrets.token_urlsafe(24), {"queue": queue, "task": task}
    install(app)
    app.add_exception_handler(CarspotterError, _known_error)
    _guard(app, frozenset((*LOOPBACK, *(name.casefold() for name in hosts))), {**_HEADERS, "x-review": session.id})
    _pages(app)
    _questions(app, session)
    _changes(app, session)
    if session.project is not None:
        _learning(app, Relearning(session.project, done=session.forget_queues))
    return app


async def _known_error(request: Request, error: Exception) -> Response:
    known = cast(CarspotterError, error)
    status = next((status for kind, status in _STATUS.items() if isinstance(known, kind)), 500)
    words = str(known).encode(errors="replace").decode()  # a file's name in it may be no UTF-8
    return tell(request, ProblemError(status, known.code, words))


def _guard(app: FastAPI, hosts: frozenset[str], headers: Mapping[str, str]) -> None:
    """Refuse what does not come from this application's own page, and send each answer with these headers."""

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        refusal = _refusal(request, hosts, app.state.token)
        response = tell(request, refusal) if refusal else await answer(request)
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _refusal(request: Request, hosts: frozenset[str], token: str) -> ProblemError | None:
    host = request.headers.get("host", "")
    if _name(host) not in hosts:
        return ProblemError(421, "wrong-host", f"this review does not answer under the name {_name(host)!r}")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return ProblemError(403, "wrong-origin", "only this review's own page may ask")
    if request.method in ("GET", "HEAD"):
        return None
    # A browser that says `same-origin` has compared; a proxy may have changed the name and the scheme that we see.
    here = f"{request.url.scheme}://{host}"
    if "sec-fetch-site" not in request.headers and request.headers.get("origin", here) != here:
        return ProblemError(403, "wrong-origin", "only this review's own page may decide")
    if not secrets.compare_digest(request.headers.get("x-review-token", "").encode(), token.encode()):
        return ProblemError(403, "wrong-token", "the page is older than this review; load it anew")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return ProblemError(415, "wrong-type", "a decision is JSON; send it as application/json")
    return None


def _name(host: str) -> str:
    """Return a Host header's name without its port; an IPv6 address keeps its brackets."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).casefold()


def _pages(app: FastAPI) -> None:
    web = resources.files("carspotter.review") / "page"
    for path, (name, media_type) in _FILES.items():
        content = web.joinpath(name).read_bytes()
        app.add_api_route(path, _page(content, media_type), methods=["GET"])


def _page(content: bytes, media_type: str) -> Callable[[], Response]:
    def page() -> Response:
        return Response(content, media_type=media_type)

    return page


def _questions(app: FastAPI, session: ReviewSession) -> None:
    @app.get("/v1/session")
    def about() -> dict[str, Any]:
        """Tell the page whose review this is, and the token of its decisions."""
        return {
            "project": session.name,
            "person": session.person,
            "token": app.state.token,
            "review": session.id,
            "begin": app.state.begin,
            "queues": {name: list(tasks) for name, tasks in session.tasks.items()},
            "decided": session.counts(),
            "learns": session.project is not None,
        }

    @app.get("/v1/items")
    def items(queue: str, task: str | None = None, limit: int = 60, fresh: bool = False) -> dict[str, Any]:
        """Return the next targets to decide."""
        query = session.query(queue, task)
        return _told(session.work(query, limit=max(1, min(limit, MOST_ITEMS)), fresh=fresh))

    @app.get("/v1/picture")
    def picture(photo: str, small: bool = False) -> Response:
        """Return a photo of a queue for the screen, or small for an album."""
        data = session.picture(photo, small=small)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/v1/taxa")
    def taxa() -> list[dict[str, Any]]:
        """Return all that a label may become."""
        return session.taxa()

    @app.get("/v1/agreement")
    def agreement(task: str) -> dict[str, Any]:
        """Return how far people agree."""
        if task not in TASKS:
            raise LabelError(f"task {task!r}; it must be one of {', '.join(TASKS)}")
        return session.agreement(task).to_dict()


def _changes(app: FastAPI, session: ReviewSession) -> None:
    @app.post("/v1/decisions")
    async def decide(request: Request) -> dict[str, Any]:
        """Put a decision on the disk; it is there when the answer comes."""
        content = await _body(request)
        decision = await run_in_threadpool(session.decide, content)
        return {"saved": decision.to_dict(), "by_others": session.by_others(decision.task)}

    @app.post("/v1/undo")
    async def undo(request: Request) -> dict[str, Any]:
        """Take a decision of this person back."""
        content = await _body(request)
        decision, item = await run_in_threadpool(session.undo, str(content.get("id")))
        return {"undone": decision.to_dict(), "item": item.to_dict()}


def _learning(app: FastAPI, relearning: Relearning) -> None:
    @app.get("/v1/learn")
    def learning() -> dict[str, Any]:
        """Return how far learning is."""
        return relearning.to_dict()

    @app.post("/v1/learn", status_code=202)
    async def learn(request: Request) -> JSONResponse:
        """Begin to learn from the decisions, in the background."""
        await _body(request)
        began = relearning.begin()
        return JSONResponse(relearning.to_dict(), status_code=202 if began else 409)


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request; its size is bounded while it comes in."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BYTES:
            raise ProblemError(413, "too-large", f"a decision has at most {MOST_BYTES} bytes")
    try:
        content = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise ProblemError(422, "wrong-value", f"the body is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ProblemError(422, "wrong-value", "the body must be a JSON object")
    return content


def _told(work: Work) -> dict[str, Any]:
    return {
        "items": [item.to_dict() for item in work.items],
        "total": work.total,
        "done": work.done,
        "last": [decision.to_dict() for decision in work.last],
        "by_others": work.by_others,
    }
