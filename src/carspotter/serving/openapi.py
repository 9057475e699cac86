"""What the OpenAPI document says of each route: its body, its answers and errors, and how a key is sent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request

from carspotter.serving import schemas

FILE = {"type": "string", "format": "binary"}
URL = {"type": "string", "examples": ["https://example.com/car.jpg"]}


ONE_PHOTO: dict[str, Any] = {
    "multipart/form-data": {
        "schema": {"type": "object", "properties": {"photo": FILE}, "required": ["photo"]},
        "encoding": {"photo": {"contentType": "image/*"}},
    },
    "image/*": {"schema": FILE},
    "application/octet-stream": {"schema": FILE},
    "application/json": {"schema": {"type": "object", "properties": {"url": URL}, "required": ["url"]}},
}


async def _take_deadline(
    request: Request,
    x_timeout_s: Annotated[
        float | None, Header(gt=0, allow_inf_nan=False, description="Seconds to wait at most.")
    ] = None,
) -> None:
    request.state.timeout_s = x_timeout_s


def route(summary: str, body: dict[str, Any], shape: type[Any] | None) -> dict[str, Any]:
    """Return what FastAPI is to be told of a route that takes a body: its words, deadline, answers and errors."""
    return {
        "summary": summary,
        "dependencies": [Depends(_take_deadline)],
        "responses": {200: {"model": shape}, **problems_of(*(status for status in schemas.PROBLEMS if status != 404))},
        "openapi_extra": {"requestBody": {"required": True, "content": body}},
    }


def problems_of(*statuses: int | str) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a route by their status."""
    return {status: schemas.PROBLEMS[status] for status in statuses}


def describe(app: FastAPI, *, needs_key: bool) -> None:
    """Put the shape of a problem among the schemas, since responses name it by reference, and how a key is sent."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        content = made()
        parts = content.setdefault("components", {})
        shape = schemas.ProblemShape.model_json_schema(ref_template="#/components/schemas/{model}")
        parts.setdefault("schemas", {}).setdefault("ProblemShape", shape)
        if needs_key:
            bearer, header = (
                {"type": "http", "scheme": "bearer"},
                {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            )
            parts["securitySchemes"] = {"bearer": bearer, "key": header}
            content["security"] = [{"bearer": []}, {"key": []}]
        return content

    app.openapi = openapi  # type: ignore[method-assign]
