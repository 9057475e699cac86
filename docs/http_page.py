"""Write `docs/http.md` from the OpenAPI document of the service: paths, parameters, bodies, shapes and errors.

In: the application as `carspotter serve --feedback FOLDER` makes it. Out: one Markdown page. The words above the paths
stand here; all below them is read from the code that answers.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.testclient import TestClient

from carspotter import Recognizer
from carspotter.serving.app import create_app
from carspotter.serving.schemas import EXAMPLE
from carspotter.serving.settings import ServeSettings

PAGE = Path(__file__).parent / "http.md"
WIDTH = 100
"""Of a line of the example."""

Document = Mapping[str, Any]

HEAD = """# HTTP API

What `carspotter serve` answers. [Serve it](serving.md) says how to start it, and what it does under load.

This page is written by `make docs` from the service's own OpenAPI document, `GET /openapi.json`; do not edit it by
hand. Fields may be added, never renamed.

## Ask

```console
$ curl -F photo=@car.jpg http://127.0.0.1:8000/v1/photos
$ curl --data-binary @car.jpg -H "content-type: image/jpeg" "http://127.0.0.1:8000/v1/photos?top=3&select=all"
$ curl --json '{"url": "https://example.com/car.jpg"}' http://127.0.0.1:8000/v1/photos    # only with --allow-urls
$ curl -F photos=@1.jpg -F photos=@2.jpg -F 'declared={"make": "VW", "model": "Golf", "colour": "rot"}' http://127.0.0.1:8000/v1/ads
$ curl -F photo=@car.jpg -o hidden.jpg http://127.0.0.1:8000/v1/blur    # without number plates and faces
```

A service with keys wants `Authorization: Bearer KEY`, or `X-API-Key: KEY`:

```sh
curl -H "Authorization: Bearer $CARSPOTTER_KEY" -F photo=@photo.jpg "https://cars.example/v1/photos?top=3"
```

`X-Timeout-S: 2` makes the deadline of a request shorter. Every answer has an `X-Request-ID`, which the log has too.
From Python: [the client](serving.md#ask-from-python). How to read an answer: [Identify
photos](identify.md#how-to-read-an-answer), and of an ad [Whole ads](serving.md#whole-ads).

## An answer

```json
EXAMPLE
```

## Errors

Every error of these paths is `application/problem+json` (RFC 9457) with a `code` for programs and a `detail` for
people; what to do about each stands in
[Troubleshooting](troubleshooting.md#the-service). Bytes that are no HTTP, and static files asked for by a wrong range,
get plain text.

## Paths
"""


def page() -> str:
    """Compose the page."""
    document = described()
    head = HEAD.replace("EXAMPLE", compact(EXAMPLE))
    paths = [
        path_section(verb, path, operation)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]
    shapes = [shape_section(name, shape) for name, shape in sorted(document["components"]["schemas"].items())]
    return head + "".join(paths) + "\n## Shapes\n" + "".join(shapes)


def compact(value: Any, indent: str = "") -> str:
    """Write JSON, each part in one line where it fits."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent + line) <= WIDTH or not isinstance(value, dict | list):
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {compact(each, deeper)}" for key, each in value.items()]
    else:
        parts = [compact(each, deeper) for each in value]
    ends = "{}" if isinstance(value, dict) else "[]"
    return ends[0] + "\n" + ",\n".join(deeper + part for part in parts) + "\n" + indent + ends[1]


def described() -> Document:
    """Ask an application for its OpenAPI document; it answers no photo."""
    with TemporaryDirectory() as folder:
        app = create_app(ServeSettings(feedback=Path(folder)), Recognizer.open())
        document: Document = TestClient(app).get("/openapi.json").json()
    return document


def path_section(verb: str, path: str, operation: Document) -> str:
    """Describe one path."""
    words = operation.get("description") or operation.get("summary", "")
    lines = ["", f"### {verb.upper()} {path}", "", words, ""]
    parameters = operation.get("parameters", [])
    if parameters:
        lines += ["| parameter | in | type | default | |", "|---|---|---|---|---|"]
        lines += [parameter_row(each) for each in parameters] + [""]
    bodies = operation.get("requestBody", {}).get("content", {})
    if bodies:
        lines += ["| body | fields |", "|---|---|"]
        lines += [
            f"| `{kind}` | {', '.join(fields_of(body['schema'])) or 'the photo itself'} |"
            for kind, body in bodies.items()
        ]
        lines += [""]
    answers = {status: answer_words(answer) for status, answer in operation["responses"].items()}
    lines += [f"Answer {status}: {said}." for status, said in answers.items() if status < "400"]
    errors = [f"`{status}` {said}." for status, said in answers.items() if status >= "400"]
    lines += ["", " ".join(["Errors:", *errors])] if errors else []
    return "\n".join([*lines, ""])


def parameter_row(each: Document) -> str:
    """Write a parameter as a row."""
    schema = each["schema"]
    default = f"`{schema['default']}`" if schema.get("default") is not None else "–"
    return f"| `{each['name']}` | {each['in']} | {type_words(schema)} | {default} | {each.get('description', '')} |"


def fields_of(schema: Document) -> Iterator[str]:
    """Yield the fields of a body."""
    for name, field in schema.get("properties", {}).items():
        yield f"`{name}` ({type_words(field)}{'' if name in schema.get('required', []) else ', optional'})"


def answer_words(answer: Document) -> str:
    """Say what a status brings: the shape of a good answer, the words of an error."""
    said = str(answer["description"]).replace("Successful Response", "").rstrip(".")
    shapes = (type_words(content.get("schema", {})) for content in answer.get("content", {}).values())
    return said or next(shapes, "nothing")


def shape_section(name: str, shape: Document) -> str:
    """Describe one shape."""
    lines = [
        "",
        f"### {name}",
        "",
        " ".join(shape.get("description", "").split()),
        "",
        "| field | type | |",
        "|---|---|---|",
    ]
    for field, schema in shape.get("properties", {}).items():
        lines.append(f"| `{field}` | {type_words(schema)} | {' '.join(schema.get('description', '').split())} |")
    return "\n".join([*lines, ""])


def type_words(schema: Document) -> str:
    """Name a type in words, with a link to its shape."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(type_words(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_words(schema.get('items', {}))}"
    if schema.get("format") == "binary":
        return "file"
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        return f"object of {type_words(values)}"
    return str(schema.get("type", ""))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
