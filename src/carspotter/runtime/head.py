"""The head of a learned bundle: a linear layer on the embedding that answers in place of the network's own classes.

In: `head.npz` as bytes, or weights and bias. Out: logits. How a head is fitted is `recognition.gallery`'s.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from carspotter.errors import BundleError

Kind = Literal["linear"]
KINDS: tuple[str, ...] = get_args(Kind)
"""Kinds of heads that this version knows; `bundle.json` names a head's."""

# 100 000 classes of 5000 numbers in float32: beyond any head, and no file makes us take more memory.
_MAX_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """Weights (n_classes, d) and bias (n_classes,), float32; logits are `embedding @ weights.T + bias`.

    Raises BundleError for other shapes or values that are not finite.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", np.ascontiguousarray(self.weights, np.float32))
        object.__setattr__(self, "bias", np.ascontiguousarray(self.bias, np.float32))
        shapes = f"weights of {self.weights.shape} and a bias of {self.bias.shape}"
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[:1] or 0 in self.weights.shape:
            raise BundleError(f"head has {shapes}; they must be (n_classes, d) and (n_classes,)")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise BundleError(f"head has {shapes} with values that are not finite; learn it again")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Head):
            return NotImplemented
        return np.array_equal(self.weights, other.weights) and np.array_equal(self.bias, other.bias)

    __hash__ = None  # type: ignore[assignment]

    @property
    def n_classes(self) -> int:
        """Return the number of classes."""
        return int(self.weights.shape[0])

    @property
    def width(self) -> int:
        """Return the length of the embeddings that it takes."""
        return int(self.weights.shape[1])

    def logits(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return logits (n, n_classes) of embeddings (n, d)."""
        # float32 as in the network: in float64 the last digits would differ from the exported head's.
        answer: NDArray[np.float32] = np.asarray(embeddings, np.float32) @ self.weights.T + self.bias
        return answer

    def evidence(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the evidence for any of the classes (n,): the logarithm of the mean exponential of the logits.

        Apart from the number of classes it is the negative energy of Liu et al. (2020): of a vehicle of no learnt class
        no logit is large. It stays as high where years of one model share what speaks for it, unlike the best
        probability.
        """
        logits = self.logits(embeddings).astype(np.float64)
        # Taken out before the exponential and added again, which overflows from 89 on in float32 and 710 in float64.
        most = logits.max(axis=1)
        return np.asarray(most + np.log(np.exp(logits - most[:, None]).mean(axis=1)), np.float64)

    def to_bytes(self) -> bytes:
        """Return the content of `head.npz`: weights in float16, bias in float32; equal heads give equal bytes."""
        buffer = BytesIO()
        # np.savez notes no times either, so that the file's checksum says whether the head is the same.
        np.savez(buffer, weights=self.weights.astype(np.float16), bias=self.bias)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Head:
        """Read what `to_bytes` wrote; raises BundleError, beginning with `where`, for anything else."""
        try:
            with np.load(BytesIO(data), allow_pickle=False, max_header_size=1000) as arrays:
                # The sizes that the archive claims are checked before anything is unpacked: a zip bomb is small.
                if sum(item.file_size for item in arrays.zip.infolist()) > _MAX_BYTES:
                    raise BundleError(f"{where} unpacks to over {_MAX_BYTES >> 30} GiB: no head of ours")
                return cls(weights=arrays["weights"], bias=arrays["bias"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise BundleError(f"{where} is no head: {error}; copy the whole folder again") from error
