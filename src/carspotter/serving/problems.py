"""Every error as problem+json (RFC 9457), so that a program reads all of them in one way.

In: what a handler raises. Out: a response with status, title, detail, a short code and the request's id. A message of
our own error tree is passed on; of anything else only that it happened, since its text may hold what is not for
strangers.
"""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from carspotter.errors import CarspotterError, ImageError, StorageError

MEDIA_TYPE = "application/problem+json"

# What alerts are written on: an overload, and a fault of the service.
FAULT, DEADLINE, QUEUE_FULL, BUSY = "fault", "deadline", "queue-full", "busy"

_STATUS_OF_IMAGE = {"too-large": 413, "unsupported-format": 415}
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_CODES = {404: "not-found", 405: "method-not-allowed"}

log = logging.getLogger("carspotter.serve")


class ProblemError(Exception):
    """Stop a request: `status` for HTTP, `code` for programs, `detail` for people."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


def problem_of_photo(code: str, message: str) -> ProblemError:
    """Return the HTTP status for a photo that cannot be used."""
    return ProblemError(_STATUS_OF_IMAGE.get(code, 422), code, message)


def problem_of(error: CarspotterError) -> ProblemError:
    """Return the HTTP status for an error of the package's tree: what the client sent is its own fault."""
    if isinstance(error, ImageError):
        return problem_of_photo(error.code, str(error))
    if isinstance(error, StorageError):  # a URL that cannot be read
        return ProblemError(422, error.code, str(error))
    return ProblemError(500, error.code, "the service is set up wrongly; its log says more")


def respond(problem: ProblemError, request_id: str) -> JSONResponse:
    """Write a problem as a response."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _PHRASES.get(problem.status, "Client Closed Request"),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
    }
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, problem.status, headers, MEDIA_TYPE)


def tell(request: Request, problem: ProblemError) -> JSONResponse:
    """Respond to a request with a problem, and leave its code where metrics and log find it."""
    request.state.code = problem.code
    return respond(problem, request_id_of(request))


def request_id_of(request: Request) -> str:
    """Return the id that the request was given when it came in."""
    return str(getattr(request.state, "request_id", ""))


def install(app: FastAPI) -> None:
    """Make an application tell all its errors as problems."""

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> JSONResponse:
        return tell(request, error)

    @app.exception_handler(CarspotterError)
    async def _known(request: Request, error: CarspotterError) -> JSONResponse:
        problem = problem_of(error)
        if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("failed", extra={"request_id": request_id_of(request)}, exc_info=error)
        return tell(request, problem)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("query", "body"))
        return tell(request, ProblemError(422, "wrong-value", f"{where}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        response = tell(
            request, ProblemError(error.status_code, _CODES.get(error.status_code, "http"), str(error.detail))
        )
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    @app.exception_handler(Exception)
    async def _fault(request: Request, _: Exception) -> JSONResponse:
        # Starlette raises it again after this answer, and uvicorn writes it into the log.
        response = tell(request, ProblemError(500, FAULT, "the service failed on this request; its log says more"))
        response.headers["connection"] = "close"  # which uvicorn does after an error
        return response
