"""The service against its own OpenAPI: schemathesis makes the requests, good and bad, and checks each answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from carspotter.recognition.recognizer import Recognizer
from carspotter.serving.app import create_app
from carspotter.serving.settings import ServeSettings

schemathesis = pytest.importorskip("schemathesis")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402


def test_every_answer_is_as_documented(recognizer: Recognizer) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(ServeSettings(), recognizer))
    operations = [found.ok() for found in schema.get_all_operations()]
    paths = {operation.path for operation in operations}
    assert paths >= {"/v1/photos", "/v1/ads", "/v1/models", "/v1/taxonomy", "/livez", "/readyz"}
    for operation in operations:
        check(operation)


def check(operation: Any) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=max(settings().max_examples // 3, 5), suppress_health_check=list(HealthCheck)
    )  # slow to draw
    def validate(case: Any) -> None:
        # A schema cannot say which bytes are a photo: those that fit it and are none are refused, as documented. So is
        # what asks for an answer within less time than it takes (504).
        answer = case.call_and_validate(excluded_checks=[positive_data_acceptance, not_a_server_error])
        assert answer.status_code in (503, 504) or answer.status_code < 500, answer.text

    validate()
