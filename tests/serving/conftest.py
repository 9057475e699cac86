"""A real service on loopback: uvicorn in a thread, tiny real bundles behind it, one for a module of tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image

from carspotter.recognition.recognizer import Recognizer
from carspotter.records import Prediction
from carspotter.serving.app import create_app
from carspotter.serving.protocol import bind
from carspotter.serving.settings import ServeSettings
from photo_drawings import encoded
from tiny_bundles import draw_photo
from waiting import NEVER_S

RED = ("red", (100, 200, 500, 500))
SIZE = (800, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A service that runs, and a client for it."""

    url: str
    http: httpx.Client
    server: uvicorn.Server


class Held:
    """A recognizer that answers nothing before its gate is opened, behind the real one; it remembers what it saw."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.finder, self.identifier, self.bundles = recognizer.finder, recognizer.identifier, recognizer.bundles
        self.recognize, self.readers = recognizer.recognize, recognizer.readers
        self.attributes = recognizer.attributes
        self.seen: list[int] = []
        self.gate = threading.Event()
        self._recognizer = recognizer

    def recognize_together(self, photos: Any, selects: Any = None) -> list[Prediction]:
        """Wait for the gate, then answer."""
        self.seen += [len(photo) for photo in photos]
        self.gate.wait(NEVER_S)
        return self._recognizer.recognize_together(photos, selects)


def jpeg(*cars: tuple[str, tuple[int, int, int, int]], size: tuple[int, int] = SIZE) -> bytes:
    """Return the file of a drawn photo with these cars."""
    return encoded(Image.fromarray(draw_photo(size, list(cars))), quality=95)


@pytest.fixture(scope="session")
def recognizer(bundles: dict[str, Path]) -> Recognizer:
    """A recognizer on the tiny bundles, as the command opens it."""
    return Recognizer.open(**bundles, engine="onnxruntime", threads=1, top=20, with_hashes=True)  # type: ignore[arg-type]


@contextmanager
def running(settings: ServeSettings, recognizer: Recognizer) -> Iterator[Running]:
    """Run a service on a free port until the context ends."""
    server, socket = bind(create_app(settings, recognizer), host="127.0.0.1", port=0, log_config=None, lifespan="on")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=NEVER_S, trust_env=False) as client:
            yield Running(url=url, http=client, server=server)
    finally:
        server.should_exit = True
        thread.join()
        socket.close()


Serve = Callable[..., Running]


@pytest.fixture
def serve(recognizer: Recognizer) -> Iterator[Serve]:
    """Start services with settings, each until the test ends."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda other=None, **settings: stack.enter_context(
            running(ServeSettings(**settings), other or recognizer)
        )


@pytest.fixture(scope="module")
def service(recognizer: Recognizer) -> Iterator[Running]:
    """A service with the usual settings."""
    with running(ServeSettings(), recognizer) as found:
        yield found
