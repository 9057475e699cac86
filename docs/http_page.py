"""Write `docs/http.md` from the OpenAPI document of the service: paths, parameters, bodies, shapes and errors.

In: the application as `carspotter serve --feedback FOLDER` makes it. Out: one Markdown page, the words of the service's
own page `/docs` (`carspotter.serving.reference`).
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.testclient import TestClient

from carspotter import Recognizer
from carspotter.serving.app import create_app
from carspotter.serving.reference import markdown
from carspotter.serving.settings import ServeSettings

PAGE = Path(__file__).parent / "http.md"
NOTE = """
This page is written by `make docs` from the service's own OpenAPI document; do not edit it by hand. A running service
shows it at `/docs`.

## Ask
"""
ASKS = "<!-- not run: tests/serving/test_reference.py asks a service with it -->\n```python\n"


def page() -> str:
    """Compose the page."""
    return markdown(described()).replace("\n## Ask\n", NOTE, 1).replace("```python\n", ASKS)


def described() -> Mapping[str, Any]:
    """Ask an application for its OpenAPI document; it answers no photo."""
    with TemporaryDirectory() as folder:
        app = create_app(ServeSettings(feedback=Path(folder)), Recognizer.open())
        document: Mapping[str, Any] = TestClient(app).get("/openapi.json").json()
    return document


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
