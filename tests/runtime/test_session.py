"""Sessions: engines, devices, forms, parity and silence, with real networks on the real engines."""

import importlib.util
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from alike import ABSOLUTE, RELATIVE
from carspotter.errors import BundleError, MissingExtraError
from carspotter.pixels import network_input
from carspotter.runtime import session as session_module
from carspotter.runtime.form import TensorSpec
from carspotter.runtime.session import Session, choose_engine, open_session
from tiny_bundles import FINDER_INPUT, IDENTIFIER_INPUT, draw_photo, finder_model, identifier_model
from waiting import NEVER_S

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
ENGINES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]


@pytest.fixture(scope="module")
def finder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "finder.onnx"
    path.write_bytes(finder_model(FINDER_INPUT).SerializeToString())
    return path


@pytest.fixture(scope="module")
def identifier_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "identifier.onnx"
    path.write_bytes(identifier_model(IDENTIFIER_INPUT).SerializeToString())
    return path


def batch_of(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return rng.integers(0, 256, (n, IDENTIFIER_INPUT.height, IDENTIFIER_INPUT.width, 3), dtype=np.uint8)


@pytest.mark.parametrize("engine", ENGINES)
def test_session_tells_its_forms(finder_path: Path, engine: str) -> None:
    session = open_session(finder_path, engine, threads=1)
    assert session.engine == engine
    assert session.input_name == "image"
    assert session.input_form == TensorSpec(name="image", shape=(None, 96, 128, 3), dtype="uint8")
    # OpenVINO calls a compiled output by an inner tensor's name when that comes first in the alphabet.
    assert session.output_names == ("kind", "scores", "boxes", "viewpoints")
    assert dict(zip(session.output_names, session.output_forms, strict=True))["viewpoints"].shape == (None, 3, 8)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n", [1, 3, 16])
def test_any_batch_size_runs_and_photos_do_not_touch_each_other(identifier_path: Path, engine: str, n: int) -> None:
    session = open_session(identifier_path, engine, threads=1)
    batch = batch_of(n)
    together = session.run(batch)
    assert together["probabilities"].shape == (n, 6)
    for i in range(n):
        np.testing.assert_allclose(
            session.run(batch[i : i + 1])["probabilities"][0], together["probabilities"][i], rtol=1e-4, atol=1e-3
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_is_not_changed_by_the_next_run(identifier_path: Path, engine: str) -> None:
    session = open_session(identifier_path, engine, threads=1)
    first = session.run(batch_of(2))
    kept = first["probabilities"].copy()
    session.run(255 - batch_of(2))
    np.testing.assert_array_equal(first["probabilities"], kept)  # the same bytes, not a second run


@pytest.mark.parametrize("engine", ENGINES)
def test_views_that_are_not_contiguous_are_read_rightly(identifier_path: Path, engine: str) -> None:
    session = open_session(identifier_path, engine, threads=1)
    flipped = batch_of(2)[:, :, ::-1]
    found, wanted = (session.run(batch)["probabilities"] for batch in (flipped, flipped.copy()))
    np.testing.assert_allclose(found, wanted, rtol=RELATIVE, atol=ABSOLUTE)


def test_no_run_at_once_is_refused(identifier_path: Path) -> None:
    with pytest.raises(ValueError, match="max_concurrency=0: must be at least 1"):
        open_session(identifier_path, "onnxruntime", max_concurrency=0)


@needs_openvino
def test_engines_agree(finder_path: Path, identifier_path: Path) -> None:
    # One of them is small, so that no two scores are equal: engines order equal ones as they like.
    photo = draw_photo(cars=[("red", (50, 60, 110, 100)), ("blue", (250, 100, 380, 250))])
    inputs = {finder_path: network_input(photo, FINDER_INPUT)[np.newaxis], identifier_path: batch_of(3)}
    for path, batch in inputs.items():
        ours, theirs = (open_session(path, engine, threads=1).run(batch) for engine in ("onnxruntime", "openvino"))
        for name, values in ours.items():
            np.testing.assert_allclose(theirs[name], values, rtol=1e-5, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("max_concurrency", [1, 3])
@pytest.mark.parametrize("engine", ENGINES)
def test_one_session_serves_many_threads(identifier_path: Path, engine: str, max_concurrency: int) -> None:
    session = open_session(identifier_path, engine, threads=1, max_concurrency=max_concurrency)
    batches = [batch_of(n) for n in range(1, 9)]
    expected = [session.run(batch)["probabilities"] for batch in batches]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            if not np.allclose(session.run(batches[i])["probabilities"], expected[i], rtol=1e-4, atol=1e-3):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 96, 128, 3), dtype=np.float32),
        np.zeros((1, 128, 96, 3), dtype=np.uint8),
        np.zeros((96, 128, 3), dtype=np.uint8),
        np.zeros((1, 96, 128, 4), dtype=np.uint8),
    ],
    ids=["float", "turned", "no batch", "alpha"],
)
def test_a_batch_that_does_not_fit_is_named(finder_path: Path, engine: str, batch: np.ndarray) -> None:
    session = open_session(finder_path, engine, threads=1)
    with pytest.raises(ValueError, match=r"but the network takes image uint8 \(n, 96, 128, 3\)"):
        session.run(batch)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("content", [b"", b"not a network", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_no_network_is_an_error(tmp_path: Path, engine: str, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        open_session(path, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_truncated_network_is_an_error(finder_path: Path, tmp_path: Path, engine: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(finder_path.read_bytes()[:2000])
    with pytest.raises(BundleError):
        open_session(path, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_of_two_inputs_is_an_error(tmp_path: Path, engine: str) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("a", "b", "c")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(BundleError, match="2 inputs"):
        open_session(tmp_path / "two.onnx", engine)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no network file"):
        open_session(tmp_path / "none.onnx", "onnxruntime")


@needs_openvino
def test_xml_without_weights_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(BundleError, match=r"model\.bin is missing"):
        open_session(tmp_path / "model.xml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "opnvino"}, "did you mean 'openvino'"),
        ({"device": "cuds"}, "did you mean 'cuda'"),
        ({"precision": "bf16"}, "'bf16' is unknown"),
        ({"threads": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_named(finder_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_session(finder_path, **options)  # type: ignore[arg-type]


def installed(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    monkeypatch.setattr(session_module, "is_installed", lambda package: package in packages)
    monkeypatch.setattr(session_module, "has_amx", lambda: "amx" in packages)


@pytest.mark.parametrize(
    ("packages", "given", "expected"),
    [
        (("amx", "openvino", "onnxruntime"), {}, "onnxruntime"),
        (("onnxruntime",), {}, "onnxruntime"),
        (("amx", "openvino", "onnxruntime"), {"device": "cuda"}, "onnxruntime"),
        (("openvino", "onnxruntime"), {"suffix": ".xml"}, "openvino"),
        (("openvino", "onnxruntime"), {"engine": "onnxruntime"}, "onnxruntime"),
        (("amx", "openvino", "onnxruntime"), {"precision": "bfloat16"}, "openvino"),
        (("amx", "openvino", "onnxruntime"), {"precision": "bfloat16", "suffix": ".xml"}, "openvino"),
    ],
)
def test_choice_of_engine(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], given: dict[str, str], expected: str
) -> None:
    installed(monkeypatch, *packages)
    assert choose_engine(given.pop("engine", "auto"), **given) == expected


@pytest.mark.parametrize(
    ("packages", "given", "message"),
    [
        (("openvino", "onnxruntime"), {}, r"\(AMX\), which this one lacks; take precision float32"),
        (("amx", "openvino", "onnxruntime"), {"engine": "onnxruntime"}, "bfloat16 is OpenVINO's on the processor"),
        (("amx", "openvino", "onnxruntime"), {"device": "cuda"}, "bfloat16 is OpenVINO's on the processor"),
        (("amx", "openvino", "litert"), {"suffix": ".tflite"}, "bfloat16 is OpenVINO's on the processor"),
        (("amx", "onnxruntime"), {}, r'pip install "carspotter\[openvino\]"'),
    ],
)
def test_bfloat16_is_refused_where_it_is_none_or_slow(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], given: dict[str, str], message: str
) -> None:
    installed(monkeypatch, *packages)
    with pytest.raises((BundleError, MissingExtraError), match=message):
        choose_engine(given.pop("engine", "auto"), **given, precision="bfloat16")


@needs_openvino
@pytest.mark.skipif(not session_module.has_amx(), reason="the processor has no AMX")
def test_bfloat16_answers_nearly_alike(tmp_path: Path) -> None:
    path = convolution(tmp_path / "model.onnx")
    batch = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    exact = open_session(path, threads=1).run(batch)["mean"]
    near = open_session(path, threads=1, precision="bfloat16").run(batch)["mean"]
    assert 0 < np.abs(near - exact).max() < 0.02 * np.abs(exact).max(), "8 bits of each number, and not more"


def convolution(path: Path) -> Path:
    """Write a network of two wide convolutions and a mean."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.1, (32, depth, 3, 3)).astype(np.float32) for depth in (3, 32)]
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "weights0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "weights1"], ["c"]),
        helper.make_node("ReduceMean", ["c", "axes"], ["mean"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 32, 32, 3])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 32])],
        [
            *(numpy_helper.from_array(each, f"weights{number}") for number, each in enumerate(weights)),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path


def test_amx_is_read_from_the_processors_flags(tmp_path: Path) -> None:
    (tmp_path / "with").write_text("flags : fpu avx512f amx_bf16 amx_tile amx_int8")
    (tmp_path / "without").write_text("flags : fpu avx2")
    assert session_module.has_amx(tmp_path / "with")
    assert not session_module.has_amx(tmp_path / "without")
    assert not session_module.has_amx(tmp_path / "none")


def test_a_missing_engine_names_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime")
    with pytest.raises(MissingExtraError, match=r'pip install "carspotter\[openvino\]"'):
        choose_engine("openvino")
    with pytest.raises(MissingExtraError, match="openvino"):
        choose_engine("auto", suffix=".xml")
    installed(monkeypatch)
    with pytest.raises(BundleError, match="pip install onnxruntime"):
        choose_engine("auto")


@pytest.mark.parametrize(
    ("engine", "suffix", "device"), [("onnxruntime", ".xml", "cpu"), ("openvino", ".onnx", "cuda")]
)
def test_impossible_choices_are_errors(engine: str, suffix: str, device: str) -> None:
    with pytest.raises(BundleError):
        choose_engine(engine, suffix=suffix, device=device)


def test_cuda_without_a_build_for_it_lists_what_there_is(finder_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build has CUDA")
    with pytest.raises(BundleError, match=r"available here: .*CPUExecutionProvider"):
        open_session(finder_path, device="cuda")


@pytest.mark.gpu
def test_cuda_answers_like_the_processor(identifier_path: Path) -> None:
    gpu: Session = open_session(identifier_path, device="cuda")
    cpu: Session = open_session(identifier_path, "onnxruntime")
    np.testing.assert_allclose(
        gpu.run(batch_of(4))["probabilities"], cpu.run(batch_of(4))["probabilities"], rtol=1e-3, atol=1e-2
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_are_silent(finder_path: Path, engine: str) -> None:
    code = (
        "import sys, numpy as np\n"
        "from carspotter.runtime.session import open_session\n"
        "assert not {'onnxruntime', 'openvino'} & sys.modules.keys()\n"
        f"session = open_session({str(finder_path)!r}, {engine!r}, threads=1)\n"
        "session.run(np.zeros((2, 96, 128, 3), np.uint8))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=NEVER_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
