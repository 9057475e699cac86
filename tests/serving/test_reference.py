"""The page of the API: what it says is what the service says, and each of its examples asks a real service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from carspotter.serving.keys import add_key
from carspotter.serving.reference import BASE, PICTURE, examples, html, markdown, slug
from serving.conftest import RED, Running, Serve, jpeg
from serving.test_pages import parse
from waiting import NEVER_S

STATUSES = {"/v1/feedback": "404"}  # of a path whose example cannot be true here
RUNNERS = {"sh": ["sh"], "python": [sys.executable], "js": ["node"]}


def documented(service: Running) -> dict[str, Any]:
    found: dict[str, Any] = service.http.get("/openapi.json").json()
    return found


def test_the_page_has_every_path_shape_and_status(serve: Serve, tmp_path: Path) -> None:
    service = serve(feedback=tmp_path)
    told = service.http.get("/docs")
    assert told.headers["content-type"] == "text/html; charset=utf-8"
    page, document = parse(told.text), documented(service)
    assert page.wrong == []
    assert page.scripts == []
    ids = {value for _, value in page.having("id")}
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            assert slug(f"{verb} {path}") in ids
            assert all(f"<td>{status}</td>" in told.text for status in operation["responses"])
    assert {name.lower() for name in document["components"]["schemas"]} <= ids
    for _, link in page.having("href"):
        assert link.removeprefix("#") in ids if link.startswith("#") else "serving.md" not in link
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", told.text)
    assert "<em>" not in told.text, "a name with a low line is no emphasis"
    assert service.http.head("/docs").status_code == 200


def test_the_page_and_the_docs_say_the_same(service: Running) -> None:
    document = documented(service)
    words, contents = html(document)
    plain = re.sub(r"\]\([^)]*\)|[\[\]`#|*]|^-+$|---", " ", markdown(document), flags=re.MULTILINE)
    shown = unescape(re.sub(r"<[^>]+>", " ", words)).replace("Copy", " ")
    assert re.findall(r"[\w/.:@{}\"-]{3,}", re.sub(r"[\[\]`#|*]", " ", shown)) == re.findall(
        r"[\w/.:@{}\"-]{3,}",
        re.sub(r"^ {3}(?:sh|python|js|json)?$", " ", plain, flags=re.MULTILINE).partition("HTTP API")[2],
    )
    assert contents.count("<li") == len(re.findall(r"^###? ", markdown(document), flags=re.MULTILINE))


def test_what_a_service_without_feedback_lacks_is_not_told(service: Running) -> None:
    assert "/v1/feedback" not in service.http.get("/docs").text


@pytest.mark.parametrize("language", RUNNERS)
def test_each_example_asks_a_service_with_keys(language: str, serve: Serve, tmp_path: Path) -> None:
    runner = RUNNERS[language]
    if not shutil.which(runner[0]) or (language == "sh" and not shutil.which("curl")):
        pytest.skip(f"there is no {runner[0]}")
    key = add_key(tmp_path / "keys.txt", "shop")
    service = serve(keys=tmp_path / "keys.txt", feedback=tmp_path / "kept")
    for name in ("car.jpg", "1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(jpeg(RED))
    document = documented(service)
    assert document["security"]
    asked = 0
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            if not path.startswith("/v1/"):
                continue
            code = examples(verb, path, operation, needs_key=True)[language].replace(BASE, service.url)
            script = tmp_path / f"example{asked}.{'mjs' if language == 'js' else language}"
            script.write_text(code.replace("curl ", 'curl -s -w "%{http_code}" ', 1) if language == "sh" else code)
            ran = subprocess.run(
                [*runner, script.name],
                cwd=tmp_path,
                env={**os.environ, "CARSPOTTER_KEY": key, "NO_PROXY": "*"},
                capture_output=True,
                text=True,
                timeout=NEVER_S,
                check=False,
            )
            assert ran.returncode == 0, ran.stderr
            assert STATUSES.get(path, "200") in ran.stdout, ran.stdout[:300] + ran.stderr[-300:]
            assert "Rubin" in ran.stdout or path in ("/v1/feedback", "/v1/models", "/v1/blur")
            asked += 1
    assert asked == 6
    assert (tmp_path / PICTURE).read_bytes()[:2] == b"\xff\xd8"


def test_an_example_without_a_key_names_none(service: Running) -> None:
    written = markdown(documented(service))
    assert written.count("CARSPOTTER_KEY") == 1, "where it says what a service with keys wants"
    assert len(re.findall("^```python$", written, flags=re.MULTILINE)) == 5
    assert len(re.findall("^```js$", written, flags=re.MULTILINE)) == 5
