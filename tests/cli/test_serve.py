"""`carspotter serve` as a process of its own: how it starts, what it refuses to start with, and how it stops."""

from __future__ import annotations

import functools
import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from commands import COMMAND, call
from serving.conftest import RED, jpeg
from waiting import NEVER_S, until


@pytest.fixture
def named(bundles: dict[str, Path]) -> list[str]:
    """The options that name tiny bundles."""
    return [word for task, folder in bundles.items() for word in (f"--{task}", str(folder))]


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command on a free port; give the process and its URL."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        match = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
        assert match, (line, process.stderr and process.stderr.read())
        yield process, match[1]
    finally:
        process.kill()
        process.communicate()


def ask(url: str, **more: object) -> httpx.Response:
    photo = {"content": jpeg(RED), "headers": {"content-type": "image/jpeg"}}
    return httpx.post(f"{url}/v1/photos", timeout=NEVER_S, trust_env=False, **photo | more)  # type: ignore[arg-type]


def test_it_answers_who_has_a_key_from_its_first_line_on_and_logs_lines_of_json(
    named: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    made = call("key", "shop", "--file", file)
    key = made.out.strip()
    assert key not in file.read_text() + made.err
    again = call("key", "shop", "--file", file)
    assert again.code == 2
    assert "already" in again.err
    with started(*named, "--keys", str(file)) as (process, url):
        headers = {"content-type": "image/jpeg", "authorization": f"Bearer {key}"}
        answer = ask(url, headers=headers, params={"top": 1})
        assert answer.status_code == 200
        assert ask(url).status_code == 401
        assert "server" not in answer.headers
        process.terminate()
        _, logged = process.communicate(timeout=NEVER_S)
    assert process.returncode in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in logged.splitlines()]
    request, refused = [line for line in lines if line["event"] == "request"]
    assert refused["status"] == 401
    assert key not in logged
    assert request["status"] == 200
    assert request["request_id"] == answer.headers["x-request-id"]
    assert "top" not in json.dumps(request)  # no query, whoever sent it


def test_sigterm_finishes_what_was_accepted(named: list[str]) -> None:
    with started(*named, "--wait-ms", "3000", "--batch", "4", "--workers", "1") as (process, url):
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(ask(url)))
        asking.start()
        metrics = functools.partial(httpx.get, f"{url}/metrics", timeout=NEVER_S, trust_env=False)
        until(lambda: "carspotter_upload_bytes 0.0" not in metrics().text, "it waits for its batch to fill")
        process.terminate()
        asking.join()
        process.communicate(timeout=NEVER_S)
    assert [answer.status_code for answer in answers] == [200]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--keys", "nothing.txt"], 1, "nothing.txt cannot be read"),
        (["--queue", "10"], 2, "an ad of 40 photos"),
        (["--finder", "nowhere"], 1, "nowhere"),
        (["--device", "tpu"], 2, "tpu"),
        (["--timeout", "0"], 2, "0"),
    ],
)
def test_what_it_does_not_start_with(
    options: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("serve", *options)
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_port_that_is_taken(named: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, "serve", "--port", port, *named], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "x" * 300])
def test_a_host_that_is_none_of_this_machines(host: str, named: list[str]) -> None:
    words = [*COMMAND, "serve", "--host", host, "--port", "0", *named]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no address of this machine has that name; choose another with --host" in done.stderr.splitlines()[-1]
