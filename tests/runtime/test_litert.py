"""LiteRT's session: a real .tflite of five kilobytes, the tiny identifier of `tiny_bundles` converted."""

import threading
from pathlib import Path

import numpy as np
import pytest

from alike import ABSOLUTE, RELATIVE
from carspotter.errors import BundleError, MissingExtraError
from carspotter.runtime import session as session_module
from carspotter.runtime.form import TensorSpec
from carspotter.runtime.session import Session, choose_engine, open_session
from tiny_bundles import ATTRIBUTES, IDENTIFIER_INPUT, identifier_model

PATH = Path(__file__).parent / "tiny_identifier.tflite"


@pytest.fixture(scope="module")
def session() -> Session:
    pytest.importorskip("ai_edge_litert")
    return open_session(PATH, threads=1)


def batch_of(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def test_a_tflite_file_is_opened_by_litert_and_tells_its_forms(session: Session) -> None:
    assert (session.engine, session.input_name) == ("litert", "image")
    assert session.input_form == TensorSpec(name="image", shape=(None, 32, 32, 3), dtype="uint8")
    sizes = {"probabilities": 6, "embedding": 16, "make": 3, "model": 5, "generation": 6, "year": 6}
    sizes |= {name: len(words) for name, words in ATTRIBUTES.items()}
    wanted = {TensorSpec(name=name, shape=(None, size), dtype="float32") for name, size in sizes.items()}
    assert set(session.output_forms) == wanted


def test_it_answers_like_the_network_it_was_converted_from(session: Session, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(identifier_model(IDENTIFIER_INPUT).SerializeToString())
    source = open_session(tmp_path / "model.onnx", "onnxruntime", threads=1)
    wanted, found = source.run(batch_of(5)), session.run(batch_of(5))
    for name in session.output_names:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_batch_is_run_photo_by_photo(session: Session, n: int) -> None:
    together = session.run(batch_of(n))
    assert together["probabilities"].shape == (n, 6)
    assert together["embedding"].shape == (n, 16)
    for i in range(n):
        one = session.run(batch_of(n)[i : i + 1])
        np.testing.assert_allclose(one["probabilities"][0], together["probabilities"][i], rtol=RELATIVE, atol=ABSOLUTE)


def test_an_answer_is_not_changed_by_the_next_run(session: Session) -> None:
    first = session.run(batch_of(2))["probabilities"]
    kept = first.copy()
    session.run(255 - batch_of(2))
    np.testing.assert_array_equal(first, kept)  # the same bytes, not a second run


def test_threads_do_not_disturb_each_other(session: Session) -> None:
    batches = [batch_of(n) for n in (1, 2, 3, 4)]
    wanted = [session.run(batch)["probabilities"] for batch in batches]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            found = session.run(batches[i])["probabilities"]
            if not np.allclose(found, wanted[i], rtol=RELATIVE, atol=ABSOLUTE):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "batch", [np.zeros((1, 32, 32, 3), np.float32), np.zeros((1, 31, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)]
)
def test_a_batch_that_does_not_fit_is_named(session: Session, batch: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"but the network takes image uint8 \(n, 32, 32, 3\)"):
        session.run(batch)


@pytest.mark.parametrize("content", [b"", b"no network", PATH.read_bytes()[:3000]], ids=["empty", "text", "cut"])
def test_a_file_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.tflite is no network that LiteRT can open"):
        open_session(tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("engine", "suffix", "device", "message"),
    [
        ("litert", ".onnx", "cpu", r"LiteRT cannot open \.onnx networks; take engine onnxruntime or openvino, or auto"),
        ("litert", ".xml", "cpu", r"LiteRT cannot open \.xml networks; take engine openvino, or auto"),
        ("onnxruntime", ".tflite", "cpu", r"ONNX Runtime cannot open \.tflite networks; take engine litert, or auto"),
        ("openvino", ".tflite", "cpu", r"OpenVINO cannot open \.tflite networks; take engine litert, or auto"),
        ("auto", ".tflite", "cuda", "LiteRT does not run on device cuda"),
        ("auto", ".xml", "cuda", "OpenVINO does not run on device cuda"),
    ],
)
def test_engines_that_cannot_open_a_file_say_which_can(engine: str, suffix: str, device: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        choose_engine(engine, suffix=suffix, device=device)


def test_without_litert_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "is_installed", lambda package: package != "ai_edge_litert")
    with pytest.raises(
        MissingExtraError, match=r'ai-edge-litert is not installed; run: pip install "carspotter\[litert\]"'
    ):
        open_session(PATH)
