"""The routes: settings and an open recognizer in, a FastAPI application out.

Each route is a few lines over `service`. Bodies are read by `uploads`, so that FastAPI's own parsing, which would put
large files on the disk, stays out of the way; what a body may be is told to OpenAPI by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.middleware.cors import CORSMiddleware

from carspotter import __version__
from carspotter.errors import CarspotterError
from carspotter.recognition import declared
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import PhotoError, Prediction
from carspotter.serving import metrics, problems, schemas
from carspotter.serving.gate import Gate
from carspotter.serving.problems import ProblemError, request_id_of
from carspotter.serving.service import Service, body_of, milliseconds_since, trimmed
from carspotter.serving.settings import ServeSettings
from carspotter.serving.uploads import Received, Upload
from carspotter.vehicles.locate import How

WEB = Path(__file__).parent / "web"

_DESCRIPTION = (
    "Names make, model, generation and year, the viewpoint and the box of each vehicle in a photo, and says so when a "
    "photo does not tell."
)
_FILE = {"type": "string", "format": "binary"}
_URL = {"type": "string", "examples": ["https://example.com/car.jpg"]}


def create_app(settings: ServeSettings, recognizer: Recognizer) -> FastAPI:
    """Make the application; it is ready once its lifespan has begun."""
    service = Service(settings, recognizer)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.stop)

    # FastAPI's own pages of documentation load scripts from a CDN; /openapi.json is what programs read.
    app = FastAPI(
        title="carspotter",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    _add_photos(app, service)
    _add_ads(app, service)
    _add_models(app, service)
    if service.feedback is not None:
        _add_feedback(app, service)
    _add_probes(app, service)
    _add_pages(app)
    _describe_shapes(app)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors), allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-timeout-s"],
            expose_headers=["x-request-id", "retry-after"],
        )  # fmt: skip
    app.add_middleware(Gate, keys=service.keys, metrics=service.metrics)
    return app


# ---- version 1


def _add_photos(app: FastAPI, service: Service) -> None:
    body = {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"photo": _FILE}, "required": ["photo"]},
            "encoding": {"photo": {"contentType": "image/*"}},
        },
        "image/*": {"schema": _FILE},
        "application/octet-stream": {"schema": _FILE},
        "application/json": {"schema": {"type": "object", "properties": {"url": _URL}, "required": ["url"]}},
    }

    @app.post("/v1/photos", **_route("Recognise one photo", body, schemas.PredictionShape))
    async def photos(
        request: Request,
        top: Annotated[int, Query(ge=1, le=20, description="Candidates of each level.")] = 5,
        select: Annotated[How, Query(description="Which vehicles of the photo.")] = "largest",
    ) -> JSONResponse:
        async with service.receive(request, photos=1, name="photo") as received:
            (upload,) = await _uploads(service, received)
            if isinstance(upload, CarspotterError):
                raise upload
            (prediction,) = await service.recognize(request, [upload], select)
            if prediction.error is not None:
                status = {"too-large": 413, "unsupported-format": 415}.get(prediction.error.type, 422)
                raise ProblemError(status, prediction.error.type, prediction.error.message)
            if service.feedback is not None:
                service.feedback.hold(request_id_of(request), upload.data, prediction)
        content = trimmed(body_of(prediction), top)
        content["milliseconds"]["total"] = milliseconds_since(request)
        return JSONResponse(content)


def _add_ads(app: FastAPI, service: Service) -> None:
    words: dict[str, Any] = {name: {"type": "string"} for name in ("make", "model", "title")}
    by_words = {"type": "object", "properties": {**words, "year": {"type": "integer"}}}
    most = service.settings.max_photos
    form = {
        "type": "object",
        "required": ["photos"],
        "properties": {
            "photos": {"type": "array", "items": _FILE, "minItems": 1, "maxItems": most},
            "declared": {"type": "string", "description": 'JSON: {"make": …, "model": …, "year": …, "title": …}'},
        },
    }
    by_url = {
        "type": "object",
        "required": ["photos"],
        "properties": {
            "photos": {
                "type": "array", "minItems": 1, "maxItems": most,
                "items": {"type": "object", "properties": {"url": _URL}, "required": ["url"]},
            },
            "declared": by_words,
        },
    }  # fmt: skip
    body = {"multipart/form-data": {"schema": form}, "application/json": {"schema": by_url}}

    @app.post("/v1/ads", **_route("Recognise the vehicle of an ad from all its photos", body, schemas.AdShape))
    async def ads(
        request: Request, top: Annotated[int, Query(ge=1, le=20, description="Candidates of each level.")] = 5
    ) -> JSONResponse:
        from carspotter.recognition.listing import answer_ad

        async with service.receive(request, photos=most, name="photos") as received:
            words = _declared(received)
            uploads = await _uploads(service, received)
            service.charge(request, len(uploads) - 1)
            good = [upload for upload in uploads if isinstance(upload, Upload)]
            found = iter(await service.recognize(request, good, "largest"))
        predictions = [next(found) if isinstance(one, Upload) else _unread(one) for one in uploads]
        taxon = await asyncio.to_thread(_resolved, service, words) if words else None
        answer = await asyncio.to_thread(answer_ad, predictions, service.recognizer.identifier, declared=taxon)
        waited = max((prediction.milliseconds.get("queue", 0.0) for prediction in predictions), default=0.0)
        content = trimmed(answer.to_dict(), top)
        content["bundles"] = service.recognizer.bundles
        content["milliseconds"] = {"queue": round(waited, 2), "total": milliseconds_since(request)}
        return JSONResponse(content)


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=schemas.ModelsShape, responses=_problems(401))
    async def models() -> dict[str, Any]:
        """Say which bundles answer, and what the service takes."""
        settings = service.settings
        return {
            "version": __version__,
            "bundles": [
                {
                    "task": bundle.task, "name": bundle.name,
                    "classes": len(bundle.taxonomy) if bundle.taxonomy else None,
                    "input": [bundle.preprocessing.width, bundle.preprocessing.height], "card": dict(bundle.card),
                }
                for bundle in (service.recognizer.finder.bundle, service.recognizer.identifier.bundle)
            ],
            "limits": {"bytes": settings.max_bytes, "pixels": settings.max_pixels, "photos": settings.max_photos},
            "formats": list(settings.formats), "urls": settings.allow_urls, "feedback": service.feedback is not None,
        }  # fmt: skip


def _add_feedback(app: FastAPI, service: Service) -> None:
    feedback = service.feedback
    assert feedback is not None

    @app.post("/v1/feedback", status_code=204, responses=_problems(401, 404, 422))
    async def say(said: schemas.FeedbackShape) -> Response:
        """Say of an answer of the last ten minutes whether it was right; this keeps its photo."""
        is_known = await asyncio.to_thread(feedback.say, said.request_id, right=said.right, said=said.said)
        if not is_known:
            raise ProblemError(404, "not-found", "no photo of this request is held any more")
        return Response(status_code=204)


# ---- probes and pages


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", responses=_problems(503))
    async def readyz() -> dict[str, str]:
        """Say whether photos are answered now."""
        if not service.is_ready:
            raise ProblemError(503, "stopping", "the service is starting or stopping", retry_after_s=1)
        return {"status": "ok"}

    @app.get("/metrics", include_in_schema=False)
    async def counted() -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


def _add_pages(app: FastAPI) -> None:
    for path, name in (("/", "photo.html"), ("/ad", "ad.html")):
        app.add_api_route(path, _page(WEB / name), include_in_schema=False, methods=["GET"])
    app.mount("/static", StaticFiles(directory=WEB, check_dir=False))


def _page(file: Path) -> Any:
    async def page() -> FileResponse:
        return FileResponse(file, headers={"cache-control": "no-cache"})

    return page


# ---- what the routes share


def _route(summary: str, body: dict[str, Any], shape: type[Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {200: {"model": shape}, **_problems(*(status for status in schemas.PROBLEMS if status != 404))},
        "openapi_extra": {"requestBody": {"required": True, "content": body}},
    }


def _problems(*statuses: int | str) -> dict[int | str, dict[str, Any]]:
    return {status: schemas.PROBLEMS[status] for status in statuses}


def _describe_shapes(app: FastAPI) -> None:
    """Put the shape of a problem among the schemas, since responses name it by reference."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        content = made()
        shape = schemas.ProblemShape.model_json_schema(ref_template="#/components/schemas/{model}")
        content.setdefault("components", {}).setdefault("schemas", {}).setdefault("ProblemShape", shape)
        return content

    app.openapi = openapi  # type: ignore[method-assign]


async def _uploads(service: Service, received: Received) -> list[Upload | CarspotterError]:
    return await service.fetch(received.urls) if received.urls else list(received.uploads)


def _unread(error: CarspotterError) -> Prediction:
    return Prediction(photo="photo", error=PhotoError.of(error))


def _declared(received: Received) -> schemas.DeclaredWords | None:
    content = received.fields.get("declared")
    if content in (None, ""):
        return None
    try:
        if isinstance(content, str):
            words = schemas.DeclaredWords.model_validate_json(content)
        else:
            words = schemas.DeclaredWords.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("declared", *first["loc"])))
        raise ProblemError(422, "wrong-value", f"{where}: {first['msg']}") from None
    return words


def _resolved(service: Service, words: schemas.DeclaredWords) -> declared.DeclaredWords:
    """Read sellers' words as a taxon; what cannot be read keeps what was said, for the answer's words."""
    found = service.resolver().resolve(words.make, words.model, year=words.year, title=words.title)
    said = " ".join(str(word) for word in (words.make, words.model, words.year, words.title) if word)
    return declared.DeclaredWords(
        make=found.make, model=found.model, generation=found.generation, year=found.year or words.year, said=said
    )
