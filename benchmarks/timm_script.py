"""The script that people write with timm to fine-tune a network: folders of photos in, a checkpoint and figures out.

It is what `train_in_one_command.py` puts beside `carspotter train`: ImageFolder, timm's transforms, optimizer, schedule
and averaged weights with their usual values, the best epoch chosen on `validation`, and answers for `test`.

    python benchmarks/timm_script.py DATA --model tf_efficientnet_lite0 --weights FILE --out answers.json
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder


def main() -> None:
    """Train, keep the best epoch, answer the test photos."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, help="folder with train/, validation/ and test/, a folder a class in each")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("answers.json"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started = time.monotonic()

    names = sorted(folder.name for folder in (options.data / "train").iterdir())
    model: Any = timm.create_model(options.model, num_classes=len(names), drop_rate=0.2)
    missing = model.load_state_dict(load_file(options.weights), strict=False).missing_keys
    assert all(name.startswith("classifier") or "num_batches" in name for name in missing), missing
    model.to(device)

    config = resolve_data_config({"img_size": options.size}, model=model)
    # Without its noise of magnitude (mstd0.5): that asks for 0 bits of a colour, which Pillow refuses.
    changed = create_transform(**config, is_training=True, auto_augment="rand-m9-inc1", re_prob=0.25)
    plain = create_transform(**config, is_training=False)
    photos = {
        split: ImageFolder(options.data / split, changed if split == "train" else plain)
        for split in ("train", "validation", "test")
    }
    loaders = {
        split: DataLoader(
            photos[split], options.batch, shuffle=split == "train", drop_last=split == "train", num_workers=2
        )
        for split in photos
    }

    optimizer = create_optimizer_v2(model, opt="adamw", lr=options.lr, weight_decay=0.05)
    scheduler = CosineLRScheduler(optimizer, t_initial=options.epochs, lr_min=1e-6, warmup_t=2, warmup_lr_init=1e-5)
    criterion = LabelSmoothingCrossEntropy(0.1)
    averaged = ModelEmaV3(model, decay=0.998, use_warmup=True)
    best, kept, step = -1.0, {}, 0
    for epoch in range(options.epochs):
        model.train()
        for images, targets in loaders["train"]:
            loss = criterion(model(images.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            step += 1
            averaged.update(model, step=step)  # without the step the first random head would linger
        scheduler.step(epoch + 1)
        right = share_right(averaged.module, loaders["validation"], device)
        print(f"epoch {epoch + 1}: {right:.4f}", flush=True)
        if right > best:
            best, kept = right, {name: value.clone() for name, value in averaged.module.state_dict().items()}

    averaged.module.load_state_dict(kept)
    answers = answers_of(averaged.module, loaders["test"], device)
    paths = [str(Path(path).relative_to(options.data / "test")) for path, _ in photos["test"].samples]
    said = {path: names[answer] for path, answer in zip(paths, answers, strict=True)}
    content = {"seconds": time.monotonic() - started, "validation": best, "answers": said}
    options.out.write_text(json.dumps(content, indent=1))


@torch.no_grad()
def answers_of(model: nn.Module, loader: Any, device: torch.device) -> list[int]:
    """Return the class that the network answers for each photo."""
    model.eval()
    return [int(answer) for images, _ in loader for answer in model(images.to(device)).argmax(1)]


def share_right(model: nn.Module, loader: Any, device: torch.device) -> float:
    """Return the share of photos whose answer is right."""
    targets = [target for _, target in loader.dataset.samples]
    answers = answers_of(model, loader, device)
    return float(sum(answer == target for answer, target in zip(answers, targets, strict=True)) / len(targets))


if __name__ == "__main__":
    main()
