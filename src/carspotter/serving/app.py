"""The routes of the service: a FastAPI application made of settings and an open recognizer.

Each route is a few lines over `service`. Bodies are read by `uploads`, so that FastAPI's own parsing, which would put
large files on the disk, stays out of the way; what a body may be is written into OpenAPI by hand.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from carspotter import __version__
from carspotter.errors import CarspotterError
from carspotter.recognition.attributes import SHOWN
from carspotter.recognition.locate import Selection
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import PhotoError, Prediction
from carspotter.runtime.blur import KINDS
from carspotter.runtime.bundle import ModelBundle
from carspotter.serving import metrics, problems, schemas
from carspotter.serving.below import Below
from carspotter.serving.gate import Gate
from carspotter.serving.openapi import FILE, ONE_PHOTO, URL, describe, problems_of, route
from carspotter.serving.pages import add_pages
from carspotter.serving.problems import ProblemError, problem_of_photo, request_id_of
from carspotter.serving.service import Service, body_of, milliseconds_since, trimmed
from carspotter.serving.settings import LIVE, READY, ServeSettings
from carspotter.serving.uploads import Upload

_DESCRIPTION = (
    "Names make, model, generation and year, the viewpoint and the box of each vehicle in a photo, and says so when a "
    "photo does not tell."
)
_FEEDBACK_BYTES = 4096


def create_app(settings: ServeSettings, recognizer: Recognizer) -> ASGIApp:
    """Make the application; it is ready once its lifespan has begun."""
    service = Service(settings, recognizer)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        await asyncio.to_thread(service.start)
        async with service.sweeping():
            yield
        await asyncio.to_thread(service.stop)

    # FastAPI's own pages of documentation load scripts from a CDN: `reference` writes ours. A slash too
    # many is no reason to redirect: the address would come from the client's Host.
    app = FastAPI(
        title="carspotter",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
    )
    problems.install(app)
    _add_photos(app, service)
    _add_ads(app, service)
    _add_blur(app, service)
    _add_models(app, service)
    if service.feedback is not None:
        _add_feedback(app, service)
    _add_probes(app, service)
    add_pages(app)
    describe(app, needs_key=service.keys is not None)
    # Outside of FastAPI, so that its answer to an unforeseen error passes the gate as well; CORS outside of the gate,
    # so that a page may read why it was not let in.
    gate = Gate(app, keys=service.keys, metrics=service.metrics, room=service.room)
    inner: ASGIApp = Below(app=gate, path=settings.root_path) if settings.root_path else gate
    if not settings.cors:
        return inner
    return CORSMiddleware(
        inner,
        allow_origins=list(settings.cors),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key", "x-timeout-s"],
        expose_headers=["x-request-id", "retry-after", "x-plates", "x-faces"],
    )


# ---- version 1


def _add_photos(app: FastAPI, service: Service) -> None:
    @app.post("/v1/photos", **route("Recognise one photo", ONE_PHOTO, schemas.PredictionShape))
    async def photos(
        request: Request,
        top: Annotated[int, Query(ge=1, le=20, description="Candidates of each level.")] = 5,
        select: Annotated[Selection, Query(description="Which vehicles of the photo.")] = "largest",
    ) -> JSONResponse:
        async with service.receive(request, is_ad=False) as came:
            (upload,) = came.uploads
            if isinstance(upload, CarspotterError):
                raise upload
            (prediction,) = await service.recognize(request, [upload], select)
            if prediction.error is not None:
                raise problem_of_photo(prediction.error.type, prediction.error.message)
            if service.feedback is not None:
                service.feedback.hold(request_id_of(request), upload.data, prediction)
        content = trimmed(body_of(prediction), top)
        content["milliseconds"]["total"] = milliseconds_since(request)
        return JSONResponse(content)


def _add_ads(app: FastAPI, service: Service) -> None:
    by_words = schemas.DeclaredWords.model_json_schema()
    most = service.settings.max_photos
    form = {
        "type": "object",
        "required": ["photos"],
        "properties": {
            "photos": {"type": "array", "items": FILE, "minItems": 1, "maxItems": most},
            "declared": {
                "type": "string",
                "description": "JSON of make, model, year, colour, body, title.",
                "examples": ['{"make": "VW", "model": "Golf", "colour": "rot"}'],
            },
        },
    }
    by_url = {
        "type": "object",
        "required": ["photos"],
        "properties": {
            "photos": {
                "type": "array",
                "minItems": 1,
                "maxItems": most,
                "items": {"type": "object", "properties": {"url": URL}, "required": ["url"]},
            },
            "declared": by_words,
        },
    }
    body = {"multipart/form-data": {"schema": form}, "application/json": {"schema": by_url}}

    @app.post("/v1/ads", **route("Recognise the vehicle of an ad from all its photos", body, schemas.AdShape))
    async def ads(
        request: Request, top: Annotated[int, Query(ge=1, le=20, description="Candidates of each level.")] = 5
    ) -> JSONResponse:
        async with service.receive(request, is_ad=True) as came:
            words = _declared(came.fields.get("declared"))
            good = [upload for upload in came.uploads if isinstance(upload, Upload)]
            found = iter(await service.recognize(request, good, "largest"))
        predictions = [next(found) if isinstance(one, Upload) else _unread(one) for one in came.uploads]
        answer = await service.answer_ad(request, predictions, words)
        waited = max((prediction.milliseconds.get("queue", 0.0) for prediction in predictions), default=0.0)
        content = trimmed(answer.to_dict(), top)
        content["bundles"] = service.recognizer.bundles
        content["milliseconds"] = {"queue": round(waited, 2), "total": milliseconds_since(request)}
        return JSONResponse(content)


def _add_blur(app: FastAPI, service: Service) -> None:
    said = route("Hide the number plates and faces of a photo", ONE_PHOTO, None)
    said["responses"][200] = {
        "description": "The photo, upright and without metadata.",
        "content": {"image/jpeg": {"schema": FILE}},
        "headers": {
            name: {"description": f"How many {words} were found.", "schema": {"type": "integer"}}
            for name, words in (("x-plates", "number plates"), ("x-faces", "faces"))
        },
    }

    @app.post("/v1/blur", response_class=Response, **said)
    async def blur(request: Request) -> Response:
        async with service.receive(request, is_ad=False) as came:
            (upload,) = came.uploads
            if isinstance(upload, CarspotterError):
                raise upload
            blurred = await service.blur(request, upload)
        counts = {f"x-{kind}s": str(sum(find.kind == kind for find in blurred.finds)) for kind in KINDS}
        # RFC 6266: a name of any script; where the sender gave none, the browser takes the route's.
        named = {"content-disposition": f"inline; filename*=UTF-8''{quote(_jpeg_name(upload.name), safe='')}"}
        return Response(blurred.jpeg, media_type="image/jpeg", headers=counts | named)


def _jpeg_name(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    return f"{last.rpartition('.')[0] or last or 'photo'}.jpg"


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=schemas.ModelsShape, responses=problems_of(401))
    async def models() -> dict[str, Any]:
        """Return which bundles answer, and what the service takes."""
        settings, asked = service.settings, service.recognizer
        used = [asked.finder.bundle, asked.identifier.bundle, *(one.bundle for one in asked.readers.by_name.values())]
        return {
            "version": __version__,
            "bundles": [_bundle(bundle) for bundle in used],
            "limits": {"bytes": settings.max_bytes, "pixels": settings.max_pixels, "photos": settings.max_photos},
            "formats": list(settings.formats),
            "urls": settings.allow_urls,
            "feedback": service.feedback is not None,
        }

    @app.get("/v1/taxonomy", responses={200: {"model": schemas.TaxonomyShape}, **problems_of(401)})
    async def taxonomy() -> JSONResponse:
        """Say all that can be named."""
        return JSONResponse(service.recognizer.identifier.taxonomy.to_dict())


def _bundle(bundle: ModelBundle) -> dict[str, Any]:
    own = bundle.task == "attribute"
    return {
        "task": bundle.task,
        "name": bundle.name,
        "classes": len(bundle.taxonomy) if bundle.taxonomy else None,
        "knows": bundle.taxonomy.extent() if bundle.taxonomy else None,
        "attributes": {name: words for name, words in bundle.attributes.items() if own or name in SHOWN},
        "input": [bundle.preprocessing.width, bundle.preprocessing.height],
        "card": dict(bundle.card),
    }


def _add_feedback(app: FastAPI, service: Service) -> None:
    shape = schemas.FeedbackShape.model_json_schema()
    more = {"requestBody": {"required": True, "content": {"application/json": {"schema": shape}}}}
    statuses = (401, 404, 408, 413, 422, 429, 500, 503)

    @app.post("/v1/feedback", status_code=204, responses=problems_of(*statuses), openapi_extra=more)
    async def say(request: Request) -> Response:
        """Say of an answer of the last ten minutes whether it was right; this keeps its photo."""
        data = await service.receive_words(request, _FEEDBACK_BYTES)
        try:
            said = schemas.FeedbackShape.model_validate_json(data)
        except ValidationError as error:
            raise _wrong(error) from None
        await service.say(said.request_id, right=said.right, said=said.said)
        return Response(status_code=204)


# ---- probes


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.head(LIVE, include_in_schema=False)
    @app.get(LIVE)
    async def livez() -> dict[str, str]:
        """Answer that the process lives."""
        return {"status": "ok"}

    @app.head(READY, include_in_schema=False)
    @app.get(READY, responses=problems_of(503))
    async def readyz() -> dict[str, str]:
        """Return whether photos are answered now."""
        if not service.is_ready:
            raise ProblemError(503, "stopping", "the service is starting or stopping", retry_after_s=1)
        return {"status": "ok"}

    @app.get("/metrics", include_in_schema=False)
    async def counted() -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


# ---- what the routes share


def _unread(error: CarspotterError) -> Prediction:
    return Prediction(photo="photo", error=PhotoError.of(error))


def _declared(content: Any) -> schemas.DeclaredWords | None:
    if content in (None, ""):
        return None
    try:
        if isinstance(content, str):
            return schemas.DeclaredWords.model_validate_json(content)
        return schemas.DeclaredWords.model_validate(content)
    except ValidationError as error:
        raise _wrong(error, "declared") from None


def _wrong(error: ValidationError, *where: str) -> ProblemError:
    first = error.errors()[0]
    return ProblemError(422, "wrong-value", f"{'.'.join(map(str, (*where, *first['loc']))) or 'body'}: {first['msg']}")
