"""A real Caddy by `deploy/Caddyfile`, before a real service with keys."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from carspotter.client import Client, ServerError
from carspotter.serving.keys import add_key
from serving.conftest import RED, Running, jpeg
from waiting import until

CADDYFILE = Path(__file__).parents[2] / "deploy" / "Caddyfile"
CADDY = shutil.which("caddy")

pytestmark = pytest.mark.skipif(CADDY is None or not CADDYFILE.is_file(), reason="needs caddy, and a checkout")


def is_open(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def proxied(serve: Callable[..., Running], tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The proxy's URL, and a key."""
    key = add_key(tmp_path / "keys.txt", "shop")
    service = serve(keys=tmp_path / "keys.txt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n}\n" + CADDYFILE.read_text(encoding="utf-8"), encoding="utf-8")
    environment = os.environ | {
        "CARSPOTTER_HOST": url,
        "CARSPOTTER_SERVICE": service.url.removeprefix("http://"),
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    command = [str(CADDY), "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as caddy:
        try:
            until(lambda: is_open(port) or caddy.poll() is not None)
            yield url, key
        finally:
            caddy.terminate()


def test_who_has_the_key_is_answered_through_the_proxy_and_nobody_else(proxied: tuple[str, str]) -> None:
    url, key = proxied
    assert Client(url, key=key).photo(jpeg(RED)).vehicles
    with pytest.raises(ServerError) as refused:
        Client(url).photo(jpeg(RED))
    assert refused.value.status == 401
    page = httpx.get(url, trust_env=False)
    assert page.status_code == 200
    assert "<title>" in page.text
