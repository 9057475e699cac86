"""How the crops of shards are cut and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from carspotter.dataset.crops import Format as ImageFormat
from carspotter.pixels import Preprocessing

Format = Literal["webdataset", "tfrecord"]
Fit = Literal["keep", "squash"]
Encoding = Literal["lossless", "jpeg", "webp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """How crops are cut and written."""

    format: tuple[Format, ...] = ("webdataset",)
    """WebDataset tars, TFRecord files, or both."""
    size: int = 0
    """Pixels of a crop; 0: what the project's identifier sees, at its size, fit and margin."""
    fit: Fit = "squash"
    """Of another size: `size` x `size` (squash), or the shorter side `size` pixels and nothing enlarged (keep)."""
    pad: float = 0.04
    """Of another size: margin around the box, as a part of it on each side."""
    encoding: Encoding = "lossless"
    """lossless is WebP, or PNG where TFRecords are written, since TensorFlow reads no WebP; the others are smaller
    and lose something."""
    quality: int = 90
    """Of JPEG and lossy WebP, 1 to 100."""
    per_shard: int = 1000
    """Samples of a file."""
    seed: int = 0
    """Of the order of samples."""
    workers: int = 0
    """Processes; 0: as many as the build's other steps."""
    blur: bool = False
    """Hide number plates and faces, for shards that others get: what is trained on them does not see plates either."""

    def __post_init__(self) -> None:
        if not self.format or len(set(self.format)) < len(self.format):
            raise ValueError(f"format is {list(self.format)}; it must name webdataset, tfrecord, or both")
        words = (("fit", self.fit, Fit), ("encoding", self.encoding, Encoding))
        for name, word, allowed in (*words, *(("format", each, Format) for each in self.format)):
            if word not in get_args(allowed):
                raise ValueError(f"{name} is {word!r}; allowed: {', '.join(get_args(allowed))}")
        for name, low, high in (("quality", 1, 100), ("per_shard", 1, 100_000), ("workers", 0, 64)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from {low} to {high}")
        if self.size != 0 and not 16 <= self.size <= 4096:
            raise ValueError(f"size is {self.size}; it must be from 16 to 4096, or 0 for that of the identifier")
        if not 0 <= self.pad <= 1:
            raise ValueError(f"pad is {self.pad}; it must be a part from 0 to 1")

    @property
    def image_format(self) -> ImageFormat:
        """Return the format of the image files."""
        if self.encoding != "lossless":
            return self.encoding
        return "png" if "tfrecord" in self.format else "webp-lossless"

    def target(self, network: Preprocessing) -> Preprocessing:
        """Return the input that crops are cut for: that of the network, or what the settings say in its place."""
        if self.size == 0:
            return network
        return Preprocessing(width=self.size, height=self.size, fit="squash", pad=self.pad)
