"""What further heads tell: only what is right often enough, and never what is more likely wrong than right."""

from __future__ import annotations

import numpy as np
import torch

from carspotter.runtime.calibration import LOWEST
from carspotter.training.identifier.heads import calibrate_heads

WORDS = ("coupe", "sedan", "van")


def head(right: int, wrong: int, sureness: float) -> tuple[torch.Tensor, np.ndarray]:
    """Return logits that say `sedan`, and truths of which so many are that."""
    logits = torch.tensor([[0.0, sureness, 0.0]]).repeat(right + wrong, 1)
    return logits, np.array([1] * right + [2] * wrong)


def test_a_word_that_is_always_right_is_told_from_one_half_on() -> None:
    logits, truth = head(200, 0, 3.0)
    assert calibrate_heads({"body": logits}, {"body": truth}, {"body": WORDS})["body"] == LOWEST


def test_a_word_that_is_wrong_too_often_is_told_only_where_it_is_surer() -> None:
    (unsure, first), (sure, second) = head(60, 40, 1.0), head(100, 0, 5.0)
    answers = {"body": torch.cat([unsure, sure])}
    found = calibrate_heads(answers, {"body": np.concatenate([first, second])}, {"body": WORDS})
    chances = (answers["body"] / found["temperatures"]["body"]).softmax(1).max(1).values
    told = chances.numpy() >= found["body"] - 1e-4  # it is rounded up to four places
    assert not told[:100].any()
    assert told[100:].all()


def test_photos_without_a_label_judge_nothing() -> None:
    logits, _ = head(50, 0, 3.0)
    found = calibrate_heads({"body": logits}, {"body": np.full(50, -1)}, {"body": WORDS})
    assert found["body"] == 1.0
