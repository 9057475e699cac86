"""From the service's OpenAPI document to a reference for people: Markdown for the docs, HTML for the page `/docs`.

Both have the same words, since the HTML is made of the Markdown. Paths, parameters, bodies, shapes and errors are read
from the document; examples in curl, Python and JavaScript are written from each path's body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, Literal

from carspotter.serving.schemas import EXAMPLE

Document = Mapping[str, Any]
Part = tuple[str, str, bool]
"""A part of a form: its name, its text or the name of its file, and whether it is a file."""

Answer = Literal["json", "picture", "none"]
PICTURE = "answer.jpg"
"""Where examples write a picture that is answered."""
BASE = "http://127.0.0.1:8000"
"""Where examples ask; the page puts its own address there."""
WIDTH = 100
"""Of a line of the example."""
LANGUAGES = {"sh": "curl", "python": "Python", "js": "JavaScript"}

_HEAD = """# HTTP API

What `carspotter serve` answers. The docs say how to start it, and what it does under load ([Serve it](serving.md)).
Fields may be added, never renamed. Programs read the same from `GET /openapi.json`.

## Ask

Each path below has its examples. A body may also be the photo itself, or a URL where the service reads URLs
(`--allow-urls`):

```sh
curl --data-binary @car.jpg -H "content-type: image/jpeg" "BASE/v1/photos?top=3&select=all"
curl --json '{"url": "https://example.com/car.jpg"}' BASE/v1/photos
```

A service with keys wants `Authorization: Bearer KEY`, or `X-API-Key: KEY`:

```sh
curl -H "Authorization: Bearer $CARSPOTTER_KEY" -F photo=@car.jpg "BASE/v1/photos?top=3"
```

`X-Timeout-S: 2` makes the deadline of a request shorter. Every answer has an `X-Request-ID`, which the log has too.
Python also has `carspotter.client` ([Ask from Python](serving.md#ask-from-python)). The docs say how to read an answer
([Identify photos](identify.md#how-to-read-an-answer)), and that of an ad ([Whole ads](serving.md#whole-ads)).

## An answer

```json
EXAMPLE
```

## Errors

Every error of these paths is `application/problem+json` (RFC 9457) with a `code` for programs and a `detail` for
people; the docs say what to do about each ([Troubleshooting](troubleshooting.md#the-service)). Bytes that are no HTTP,
and static files asked for by a wrong range, get plain text.

## Paths
"""


def markdown(document: Document) -> str:
    """Write the reference as Markdown; links name pages of the docs, and shapes below."""
    head = _HEAD.replace("EXAMPLE", compact(EXAMPLE)).replace("BASE", BASE)
    needs_key = bool(document.get("security"))
    paths = [
        _path(verb, path, operation, needs_key=needs_key)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]
    shapes = [_shape(name, shape) for name, shape in sorted(document["components"]["schemas"].items())]
    return head + "".join(paths) + "\n## Shapes\n" + "".join(shapes)


def html(document: Document) -> tuple[str, str]:
    """Return the reference as HTML below its title, and its table of contents as list items.

    A link to a page of the docs becomes plain words.
    """
    from markdown_it import MarkdownIt

    writer = MarkdownIt("commonmark", {"html": False}).enable("table")
    writer.add_render_rule("fence", _fence)
    writer.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>')
    writer.add_render_rule("table_close", lambda *_: "</table></div>")
    tokens = writer.parse(markdown(document))[3:]  # the page has the title itself
    contents = []
    for token, inside in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", slug(inside.content))
            contents.append((token.tag, inside.content))
        elif token.type == "inline":
            token.children = _unlinked(token.children or [])
    links = "".join(f'<li class="{tag}"><a href="#{slug(words)}">{escape(words)}</a></li>' for tag, words in contents)
    return f'<div data-base="{BASE}">{writer.renderer.render(tokens, writer.options, {})}</div>', links


def slug(words: str) -> str:
    """Return the anchor of a heading: "POST /v1/photos" is "post-v1photos", as the site of the docs has it."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", words.casefold()).strip())


def _fence(_: Any, tokens: Sequence[Any], index: int, *__: Any) -> str:
    token = tokens[index]
    name = LANGUAGES.get(token.info, "JSON")
    return (
        f'<div class="code" data-lang="{escape(token.info)}"><pre tabindex="0" aria-label="{name}">'
        f'{escape(token.content)}</pre><button type="button" class="button small">Copy</button></div>\n'
    )


def _unlinked(children: Sequence[Any]) -> list[Any]:
    """Return the parts of a line without links to pages that are not here."""
    kept, is_kept = [], True
    for child in children:
        if child.type == "link_open":
            is_kept = child.attrGet("href").startswith("#")
        if is_kept or child.type not in ("link_open", "link_close"):
            kept.append(child)
    return kept


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


# ---- paths and shapes


def _path(verb: str, path: str, operation: Document, *, needs_key: bool) -> str:
    words = operation.get("description") or operation.get("summary", "")
    lines = ["", f"### {verb.upper()} {path}", "", words, ""]
    if path.startswith("/v1/"):
        for language, code in examples(verb, path, operation, needs_key=needs_key).items():
            lines += [f"```{language}", code, "```", ""]
    parameters = operation.get("parameters", [])
    if parameters:
        lines += ["| parameter | in | type | default | about |", "|---|---|---|---|---|"]
        lines += [_parameter(each) for each in parameters] + [""]
    bodies = operation.get("requestBody", {}).get("content", {})
    if bodies:
        lines += ["| body | fields |", "|---|---|"]
        lines += [
            f"| `{kind}` | {', '.join(_fields(body['schema'])) or 'the photo itself'} |"
            for kind, body in bodies.items()
        ]
        lines += [""]
    lines += ["| status | answer |", "|---|---|"]
    lines += [f"| {status} | {_answer(answer)} |" for status, answer in operation["responses"].items()]
    return "\n".join([*lines, ""])


def _parameter(each: Document) -> str:
    schema = each["schema"]
    default = f"`{schema['default']}`" if schema.get("default") is not None else "–"
    return f"| `{each['name']}` | {each['in']} | {_type(schema)} | {default} | {each.get('description', '')} |"


def _fields(schema: Document) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield f"`{name}` ({_type(field)}{'' if name in schema.get('required', []) else ', optional'})"


def _answer(answer: Document) -> str:
    """Say what a status brings: words, and the shape of the body."""
    said = str(answer["description"]).replace("Successful Response", "").rstrip(".")
    shapes = (_type(content.get("schema", {})) for content in answer.get("content", {}).values())
    return ": ".join(part for part in (said, next(shapes, "")) if part) or "nothing"


def _shape(name: str, shape: Document) -> str:
    about = " ".join(shape.get("description", "").split())
    lines = ["", f"### {name}", "", about, "", "| field | type | about |", "|---|---|---|"]
    for field, schema in shape.get("properties", {}).items():
        lines.append(f"| `{field}` | {_type(schema)} | {' '.join(schema.get('description', '').split())} |")
    return "\n".join([*lines, ""])


def _type(schema: Document) -> str:
    """Name a type in words, with a link to its shape."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("format") == "binary":
        return "file"
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        return f"object of {_type(values)}"
    return str(schema.get("type", ""))


# ---- examples


def examples(verb: str, path: str, operation: Document, *, needs_key: bool = False) -> dict[str, str]:
    """Write a request in each language: a form where the path takes one, else JSON of the examples of its fields."""
    bodies = operation.get("requestBody", {}).get("content", {})
    form = bodies.get("multipart/form-data", {}).get("schema")
    words = bodies.get("application/json", {}).get("schema") if form is None else None
    parts = list(_parts(form)) if form else []
    body = json.dumps({name: _sample(field) for name, field in words["properties"].items()}) if words else ""
    answer = _answered(operation)
    return {
        "sh": _in_curl(path, parts, body, needs_key=needs_key, answer=answer),
        "python": _in_python(verb, path, parts, body, needs_key=needs_key, answer=answer),
        "js": _in_javascript(verb, path, parts, body, needs_key=needs_key, answer=answer),
    }


def _answered(operation: Document) -> Answer:
    """Say what a good answer is: JSON, a picture, or nothing."""
    if "204" in operation["responses"]:
        return "none"
    kinds = operation["responses"]["200"].get("content", {})
    return "picture" if any(kind.startswith("image/") for kind in kinds) else "json"


def _parts(form: Document) -> Iterator[Part]:
    for name, field in form["properties"].items():
        if field.get("type") == "array":
            yield from ((name, f"{number}.jpg", True) for number in (1, 2))
        elif field.get("format") == "binary":
            yield name, "car.jpg", True
        else:
            yield name, _sample(field), False


def _sample(field: Document) -> Any:
    """Return the first example of a field, else one of its type."""
    if field.get("examples"):
        return field["examples"][0]
    return {"boolean": True, "integer": 1, "number": 1.0}.get(field.get("type", ""), "")


def _in_curl(path: str, parts: Sequence[Part], body: str, *, needs_key: bool, answer: Answer) -> str:
    words = ['-H "Authorization: Bearer $CARSPOTTER_KEY"'] if needs_key else []
    for name, value, is_file in parts:
        words.append(f"-F {name}=@{value}" if is_file else f"-F '{name}={value}'")
    words += [f"--json '{body}'"] if body else []
    words += [f"-o {PICTURE}"] if answer == "picture" else []
    return " ".join(["curl", *words, f"{BASE}{path}"])


def _in_python(verb: str, path: str, parts: Sequence[Part], body: str, *, needs_key: bool, answer: Answer) -> str:
    lines = ["import os\n"] if needs_key else []
    lines += ["import httpx\n"]
    given = [f'"{BASE}{path}"']
    files = [f'    ("{name}", open("{value}", "rb")),' for name, value, is_file in parts if is_file]
    texts = {name: value for name, value, is_file in parts if not is_file}
    if files:
        lines += ["files = [", *files, "]"]
        given += ["files=files"]
    if texts:
        lines += [f"data = {texts!r}"]
        given += ["data=data"]
    given += [f"json={json.loads(body)!r}"] if body else []
    if needs_key:
        lines += ["""headers = {"Authorization": f"Bearer {os.environ['CARSPOTTER_KEY']}"}"""]
        given += ["headers=headers"]
    told = "answer.status_code, answer.json()" if answer == "json" else "answer.status_code"
    lines += [f"answer = httpx.{verb}({', '.join(given)}, timeout=30)", f"print({told})"]
    if answer == "picture":
        lines += [f'with open("{PICTURE}", "wb") as file:', "    file.write(answer.content)"]
    return "\n".join(lines)


def _in_javascript(verb: str, path: str, parts: Sequence[Part], body: str, *, needs_key: bool, answer: Answer) -> str:
    lines, given = [], [f'method: "{verb.upper()}"'] if verb != "get" else []
    if parts:
        lines = ['import { openAsBlob } from "node:fs"; // in a browser: the File of an <input>\n']
        lines += ["const form = new FormData();"]
        for name, value, is_file in parts:
            content = f'await openAsBlob("{value}"), "{value}"' if is_file else json.dumps(value)
            lines += [f'form.append("{name}", {content});']
        given += ["body: form"]
    headers = ["Authorization: `Bearer ${process.env.CARSPOTTER_KEY}`"] if needs_key else []
    headers += ['"Content-Type": "application/json"'] if body else []
    given += [f"headers: {{ {', '.join(headers)} }}"] if headers else []
    given += [f"body: JSON.stringify({body})"] if body else []
    options = f", {{ {', '.join(given)} }}" if given else ""
    told = "answer.status, JSON.stringify(await answer.json(), null, 2)" if answer == "json" else "answer.status"
    lines += [f'const answer = await fetch("{BASE}{path}"{options});', f"console.log({told});"]
    if answer == "picture":
        lines[0] = lines[0].replace("openAsBlob", "openAsBlob, writeFileSync")
        lines += [f'writeFileSync("{PICTURE}", Buffer.from(await answer.arrayBuffer()));']
    return "\n".join(lines)
