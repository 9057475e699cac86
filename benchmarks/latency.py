"""How fast one answer comes and how many a second, on one core; engine against engine in the same run.

1. One 800 px photo end to end (bytes in, prediction out), warm, each engine: p50 and p95. Target: p50 at most 30 ms.
2. A batch of 64 photos against the sum of its parts: decoding alone plus the two networks' bare runs, in batches of the
   same size. Target: at least 70 % of that throughput.
3. Each network bare, batch 1 and 16: OpenVINO (float32, and bfloat16 where there is AMX), ONNX Runtime, torch eager.

torch eager is timm's EfficientNet-Lite0 with the identifier's classes; `--checkpoint` loads trained weights, which
changes no time. Without `--photos` the photos are drawn noise, which is slower to decode than most real photos.

    python benchmarks/latency.py [--photos FOLDER] [--checkpoint FILE] [--repeats 200]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch and OpenMP when they load, so before them

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carspotter.crops import decode_side
from carspotter.pixels import decode
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.session import has_amx, open_session
from drawn import draw_noise, jpeg
from measure import installed, keep_to_one_core, parser, percentiles, report, timings

LONG_SIDE = 800
BATCH = 64
BATCH_SIZE = 16
ENGINES = ("openvino", "onnxruntime")
Batch = NDArray[np.uint8]


def photos(folder: Path | None) -> list[bytes]:
    """Give 64 photos of 800 px as JPEG bytes, real ones scaled down, repeated where there are fewer."""
    if folder is None:
        return [jpeg(draw_noise(seed=seed)) for seed in range(BATCH)]
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}]
    if not paths:
        raise SystemExit(f"no photo below {folder}")
    return [scaled(paths[index % len(paths)]) for index in range(BATCH)]


def scaled(path: Path) -> bytes:
    """Encode a photo with its longer side at 800 px."""
    with Image.open(BytesIO(path.read_bytes())) as image:
        factor = LONG_SIDE / max(image.size)
        return jpeg(image.convert("RGB").resize((round(image.width * factor), round(image.height * factor))))


def end_to_end(data: Sequence[bytes], engine: str, *, repeats: int) -> dict[str, Any]:
    """Time whole answers, one photo after the other."""
    recognizer = Recognizer.open(engine=engine, threads=1)  # type: ignore[arg-type]
    source = endless(data)
    taken = timings(lambda: recognizer.recognize(next(source)), repeats=repeats, warm=10)
    return {"what": "one photo end to end", "engine": engine, **percentiles(taken), "target": "p50 <= 30"}


def endless(data: Sequence[bytes]) -> Iterator[bytes]:
    """Go round and round."""
    while True:
        yield from data


def batch_share(data: Sequence[bytes], engine: str, *, rounds: int = 3) -> dict[str, Any]:
    """Compare a batch's throughput with decoding plus bare runs; the best of some rounds, since others disturb."""
    recognizer = Recognizer.open(engine=engine, threads=1)  # type: ignore[arg-type]
    whole = best(lambda: list(recognizer.recognize_batch(data, batch_size=BATCH_SIZE)), rounds)
    answered = list(recognizer.recognize_batch(data, batch_size=BATCH_SIZE))
    n_crops = sum(1 for photo in answered for vehicle in photo.vehicles if vehicle.embedding is not None)
    bundles = shipped("finder"), shipped("identifier")
    side = decode_side(bundles[1].preprocessing, bundles[0].preprocessing)
    parts = best(lambda: [decode(photo, min_side=side) for photo in data], rounds)
    for bundle, count in zip(bundles, (len(data), n_crops), strict=True):
        session = open_session(bundle.model_path, engine, threads=1)
        batches = [zeros(bundle, min(BATCH_SIZE, count - start)) for start in range(0, count, BATCH_SIZE)]
        parts += best(partial(run_all, session.run, batches), rounds)
    return {
        "what": f"batch of {len(data)}, {n_crops} identified",
        "engine": engine,
        "photos/s": round(len(data) / whole, 1),
        "parts/s": round(len(data) / parts, 1),
        "share": round(parts / whole, 3),
        "target": "share >= 0.7",
    }


def run_all(run: Callable[[Batch], object], batches: Sequence[Batch]) -> None:
    """Run each batch once."""
    for batch in batches:
        run(batch)


def best(action: Callable[[], object], rounds: int) -> float:
    """Give the least seconds of some rounds, after one that is not counted."""
    action()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return min(taken)


def zeros(bundle: ModelBundle, n: int) -> Batch:
    """Make a batch for a bundle's network; what is in it changes no time."""
    return np.zeros((n, bundle.preprocessing.height, bundle.preprocessing.width, 3), dtype=np.uint8)


def engine_runs(*, repeats: int) -> list[dict[str, Any]]:
    """Time the networks without anything around them, engine by engine."""
    rows = []
    for bundle in (shipped("finder"), shipped("identifier")):
        for engine, precision in (("openvino", "float32"), ("openvino", "bfloat16"), ("onnxruntime", "float32")):
            if installed(engine) and (precision == "float32" or has_amx()):
                session = open_session(bundle.model_path, engine, threads=1, precision=precision)
                rows += bare_rows(bundle, f"{engine} {precision}", session.run, repeats=repeats)
    return rows


def bare_rows(bundle: ModelBundle, label: str, run: Callable[[Batch], object], *, repeats: int) -> list[dict[str, Any]]:
    """Time one network at batch 1 and 16; photos a second from the median."""
    rows = []
    for n in (1, BATCH_SIZE):
        batch = zeros(bundle, n)
        taken = percentiles(timings(partial(run, batch), repeats=max(5, repeats // n), warm=3))
        speed = round(1000 * n / taken["p50_ms"], 1)
        rows.append({"what": f"{bundle.task}, batch {n}", "engine": label, **taken, "photos/s": speed})
    return rows


def torch_runs(checkpoint: Path | None, *, repeats: int) -> list[dict[str, Any]]:
    """Time the identifier's network in torch eager, float32 and bfloat16, where torch is installed."""
    if not (installed("torch") and installed("timm")):
        return []
    import timm
    import torch

    torch.set_num_threads(1)
    bundle = shipped("identifier")
    n_classes = len(bundle.taxonomy) if bundle.taxonomy else 0
    network = timm.create_model("tf_efficientnet_lite0", num_classes=n_classes).eval()
    if checkpoint is not None:
        network.load_state_dict(torch.load(checkpoint, weights_only=True), strict=False)
    network = network.to(memory_format=torch.channels_last)

    def run(batch: Batch, *, half: bool) -> object:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1
            return network(pixels)

    rows = bare_rows(bundle, "torch eager float32", partial(run, half=False), repeats=repeats)
    return rows + bare_rows(bundle, "torch eager bfloat16", partial(run, half=True), repeats=repeats)


def main() -> None:
    """Measure what the bundles of the package can do and print one table."""
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, help="a folder of real photos; without it they are drawn")
    options.add_argument("--checkpoint", type=Path, help="weights of the identifier for torch eager")
    options.add_argument("--repeats", type=int, default=200)
    chosen = options.parse_args()
    keep_to_one_core()
    data = photos(chosen.photos)
    engines = [engine for engine in ENGINES if installed(engine)]
    rows = [end_to_end(data, engine, repeats=chosen.repeats) for engine in engines]
    rows += [batch_share(data, engine) for engine in engines]
    rows += engine_runs(repeats=chosen.repeats) + torch_runs(chosen.checkpoint, repeats=chosen.repeats)
    source = "drawn noise" if chosen.photos is None else f"{chosen.photos.name}, scaled"
    conditions = {"photos": f"{source}, {LONG_SIDE} px", "threads": 1, "core": "one, bound"}
    report("latency", rows, as_json=chosen.json, conditions=conditions)


if __name__ == "__main__":
    main()
