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

SHARE = 0.25
"""How much the logits count in the evidence beside what the network itself says. On 20 models, known to the network or
hidden from it, 0.1 to 0.5 are within two hundredths of each other; more gives away what it knows, less what it does
not (RESULTS.md)."""
FLOOR = 1e-3
"""Added to the likeness of what the network says, so that its logarithm stays finite: nothing in common is -6.9."""

# 100 000 classes of 5000 numbers in float32: beyond any head, and no file makes us take more memory.
_MAX_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """Weights (n_classes, d) and bias (n_classes,), float32; logits are `embedding @ weights.T + bias`.

    `profiles` (n_classes, m), where known, are the square roots of the mean probabilities that the network under the
    head gives its own m models on photos of each class. Raises BundleError for other shapes or values not finite.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    profiles: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", np.ascontiguousarray(self.weights, np.float32))
        object.__setattr__(self, "bias", np.ascontiguousarray(self.bias, np.float32))
        shapes = f"weights of {self.weights.shape} and a bias of {self.bias.shape}"
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[:1] or 0 in self.weights.shape:
            raise BundleError(f"head has {shapes}; they must be (n_classes, d) and (n_classes,)")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise BundleError(f"head has {shapes} with values that are not finite; learn it again")
        if self.profiles is not None:
            object.__setattr__(self, "profiles", np.ascontiguousarray(self.profiles, np.float32))
            shape = self.profiles.shape
            if len(shape) != 2 or shape[0] != len(self.bias) or not np.isfinite(self.profiles).all():
                raise BundleError(f"head has {shapes}, but profiles of {shape}; they must be (n_classes, m), finite")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Head):
            return NotImplemented
        return all(
            np.array_equal(mine, theirs) if mine is not None and theirs is not None else mine is theirs
            for mine, theirs in (
                (self.weights, other.weights),
                (self.bias, other.bias),
                (self.profiles, other.profiles),
            )
        )

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

    def evidence(
        self, embeddings: NDArray[np.floating[Any]], said: NDArray[np.floating[Any]] | None = None
    ) -> NDArray[np.float64]:
        """Return the evidence (n,) for any of the classes, from embeddings (n, d) and the network's own models (n, m).

        Of the logits it is the logarithm of their mean exponential: apart from the number of classes the negative
        energy of Liu et al. (2020), since of a vehicle of no learnt class no logit is large. With profiles a share of
        it is added to the logarithm of the best likeness (Bhattacharyya's coefficient, 0..1) of `said` to a profile: a
        network that is sure of another model than it saw in any class is the strongest sign of a stranger. Raises
        ValueError for profiles without `said`.
        """
        logits = self.logits(embeddings).astype(np.float64)
        # Taken out before the exponential and added again, which overflows from 89 on in float32 and 710 in float64.
        most = logits.max(axis=1)
        energy = np.asarray(most + np.log(np.exp(logits - most[:, None]).mean(axis=1)), np.float64)
        if self.profiles is None:
            return energy
        if said is None:
            raise ValueError("a head with profiles needs what its network says of models, beside the embedding")
        likeness = (np.sqrt(np.maximum(said, 0.0)) @ self.profiles.T).max(axis=1)
        return np.asarray(SHARE * energy + np.log(likeness + FLOOR), np.float64)

    def to_bytes(self) -> bytes:
        """Return the content of `head.npz`: weights in float16, bias in float32; equal heads give equal bytes."""
        buffer = BytesIO()
        # np.savez notes no times either, so that the file's checksum says whether the head is the same.
        arrays: dict[str, Any] = {"weights": self.weights.astype(np.float16), "bias": self.bias}
        if self.profiles is not None:
            arrays["profiles"] = self.profiles.astype(np.float16)
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Head:
        """Read what `to_bytes` wrote; raises BundleError, beginning with `where`, for anything else."""
        try:
            with np.load(BytesIO(data), allow_pickle=False, max_header_size=1000) as arrays:
                # The sizes that the archive claims are checked before anything is unpacked: a zip bomb is small.
                if sum(item.file_size for item in arrays.zip.infolist()) > _MAX_BYTES:
                    raise BundleError(f"{where} unpacks to over {_MAX_BYTES >> 30} GiB: no head of ours")
                profiles = arrays["profiles"] if "profiles" in arrays.files else None
                return cls(weights=arrays["weights"], bias=arrays["bias"], profiles=profiles)
        except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise BundleError(f"{where} is no head: {error}; copy the whole folder again") from error
