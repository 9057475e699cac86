"""How well do `doubts` find wrong labels? Photos whose labels are made wrong on purpose in, precision and recall out.

Of the labels of Stanford Cars 20 and 40 % are made wrong, half of them into the class that looks most alike, half into
any other class. The descriptions must not know the true labels: frozen ImageNet features on the training photos, and
the shipped identifier's embeddings on test photos, which it never saw. The photos are crops already, squashed to
224 px, so that published figures, which start from whole photographs, are not quite comparable.

    OMP_NUM_THREADS=1 python benchmarks/label_noise.py ../shared/data/stanford-cars --cache FOLDER
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.labels.noise import Fit, deal_folds, find_doubts, out_of_fold
from carspotter.pixels import decode, network_input
from carspotter.recognition.probes import fit_probe
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.calibration import fit_temperature, softmax
from measure import parser, report

Array = npt.NDArray[Any]
BATCH = 16
SHARES = (0.2, 0.4)
SEEDS = 3
RECALL = 0.8
STRENGTHS = (0.3, 0.1, 0.03)


def main() -> None:
    """Print the figures of both descriptions at each share of wrong labels."""
    options = parser(__doc__)
    options.add_argument("data", type=Path, help="folder with labels.csv: path, split, class_id, …")
    options.add_argument("--cache", type=Path, required=True, help="folder where descriptions of photos are kept")
    options.add_argument("--seeds", type=int, default=SEEDS)
    given = options.parse_args()
    rows = []
    for name, split, describe in (
        ("ImageNet features, train", "train", imagenet_embeddings),
        ("shipped identifier, test", "test", identifier_embeddings),
    ):
        paths, classes = read(given.data, split)
        embeddings = cached(given.cache, f"{describe.__name__}-{split}", describe, paths)
        # Chosen by the labels as they are given, which is all that a user has.
        wrong = inject(classes, embeddings, SHARES[0], np.random.default_rng(given.seeds))
        strength = choose_strength(embeddings, wrong)
        for share in SHARES:
            found = [measure(embeddings, classes, share, seed=seed, strength=strength) for seed in range(given.seeds)]
            rows.append({"description": name, "photos": len(paths), "wrong": share, **summary(found)})
    conditions = {"seeds": given.seeds, "wrong labels": "half in the nearest class, half in any", "recall": RECALL}
    report("Wrong labels found", rows, as_json=given.json, conditions=conditions)


def read(data: Path, split: str) -> tuple[list[Path], Array]:
    """Return the photos of a split and their classes from 0."""
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [data / row["path"] for row in rows], np.array([int(row["class_id"]) - 1 for row in rows])


def inject(classes: Array, embeddings: Array, share: float, random: np.random.Generator) -> Array:
    """Make a share of the labels wrong: half into the class whose prototype is nearest, half into any other."""
    n_classes = int(classes.max()) + 1
    centred = embeddings - embeddings.mean(axis=0)
    prototypes = np.stack([centred[classes == each].mean(axis=0) for each in range(n_classes)])
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    alike = prototypes @ prototypes.T
    np.fill_diagonal(alike, -np.inf)
    chosen = random.permutation(len(classes))[: round(share * len(classes))]
    near, anywhere = np.array_split(chosen, 2)
    wrong = classes.copy()
    wrong[near] = alike.argmax(axis=1)[classes[near]]
    wrong[anywhere] = (classes[anywhere] + random.integers(1, n_classes, len(anywhere))) % n_classes
    return wrong


def probe(strength: float) -> Fit:
    """Return how a probe of a strength is fitted."""
    return lambda x, y, n: fit_probe(x, y, n, strength=strength).logits


def choose_strength(embeddings: Array, labels: Array) -> float:
    """Return the strength that makes given labels likeliest which were not learnt from."""
    held = deal_folds(labels, np.arange(len(labels))) == 0
    losses = {}
    for strength in STRENGTHS:
        judge = probe(strength)(embeddings[~held], labels[~held], int(labels.max()) + 1)
        logits = judge(embeddings[held]).astype(np.float64)
        probabilities = softmax(logits / fit_temperature(logits, labels[held]))
        losses[strength] = -np.log(probabilities[np.arange(held.sum()), labels[held]] + 1e-12).mean()
    return min(losses, key=lambda strength: losses[strength])


def measure(embeddings: Array, classes: Array, share: float, *, seed: int, strength: float) -> dict[str, float]:
    """Make labels wrong and look for them; say how well they were found."""
    labels = inject(classes, embeddings, share, np.random.default_rng(seed))
    n_classes = int(classes.max()) + 1
    probabilities = out_of_fold(embeddings, labels, np.arange(len(labels)), n_classes, fit=probe(strength), seed=seed)
    doubts = find_doubts(probabilities, labels, [str(each) for each in range(n_classes)])
    is_wrong = (labels != classes)[doubts.position]  # the most doubtful first
    found = np.cumsum(is_wrong)
    precision = found / np.arange(1, len(found) + 1)
    return {
        f"precision at recall {RECALL}": float(precision[np.searchsorted(found, RECALL * found[-1])]),
        "average precision": float(precision[is_wrong].mean()),
        "flagged truly wrong": float(is_wrong[doubts.flagged].mean()),
        "wrong ones flagged": float(doubts.flagged[is_wrong].mean()),
        "suggested right": float((doubts.suggested == classes[doubts.position])[is_wrong].mean()),
        "probe right": float((probabilities.argmax(axis=1) == classes).mean()),
        "strength": strength,
    }


def summary(found: list[dict[str, float]]) -> dict[str, str]:
    """Return the mean of each figure with its standard deviation."""
    result = {}
    for name in found[0]:
        values = np.array([each[name] for each in found])
        spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 and name != "strength" else ""
        result[name] = f"{values.mean():.3g}" if name == "strength" else f"{values.mean():.3f}{spread}"
    return result


def batches(paths: list[Path], bundle: ModelBundle) -> Iterator[npt.NDArray[np.uint8]]:
    """Decode photos into network inputs, some at a time."""
    for start in range(0, len(paths), BATCH):
        photos = [decode(path.read_bytes()).pixels for path in paths[start : start + BATCH]]
        yield np.stack([network_input(pixels, bundle.preprocessing) for pixels in photos])


def identifier_embeddings(paths: list[Path]) -> Array:
    """Describe photos by the shipped identifier, as (n, d)."""
    bundle = shipped("identifier")
    session = bundle.open_session("onnxruntime", threads=1)
    return np.concatenate([session.run(crops)["embedding"] for crops in batches(paths, bundle)])


def imagenet_embeddings(paths: list[Path]) -> Array:
    """Describe photos by EfficientNet-Lite0 as ImageNet left it, as (n, 1280) of unit length."""
    import torch

    from carspotter.training.weights import pretrained

    torch.set_num_threads(1)
    network = pretrained("tf_efficientnet_lite0").eval().to(memory_format=torch.channels_last)
    settings: Any = network.pretrained_cfg
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
    found = []
    with torch.inference_mode():
        for crops in batches(paths, shipped("identifier")):
            pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
            found.append(network((pixels - mean) / std).numpy())
    features = np.concatenate(found)
    unit: Array = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit


def cached(cache: Path, name: str, describe: Callable[[list[Path]], Array], paths: list[Path]) -> Array:
    """Return descriptions of photos out of the cache, or describe them and keep that."""
    file = cache / f"{name}-{len(paths)}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, describe(paths).astype(np.float32))
    found: Array = np.load(file)
    return found


if __name__ == "__main__":
    main()
