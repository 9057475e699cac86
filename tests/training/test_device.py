"""Which precision a training chooses, by what the processor can do and by a timed step."""

from __future__ import annotations

import platform

import pytest

pytest.importorskip("torch", reason="training needs the extra `train`")

import torch

from carspotter.training.device import chooses_bfloat16


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_bfloat16_is_tried_only_where_the_processor_may_have_it(
    has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    model, tried = torch.nn.Linear(4, 2), []

    def loss() -> torch.Tensor:
        tried.append(torch.is_autocast_enabled("cpu"))
        return model(torch.ones(3, 4)).float().sum()

    chosen = chooses_bfloat16(loss, model, torch.device("cpu"), "auto")
    assert tried == ([False, True] if has_bfloat16 else [])
    assert not chosen or has_bfloat16
    assert chooses_bfloat16(loss, model, torch.device("cpu"), "bfloat16"), "who asks for it gets it"
