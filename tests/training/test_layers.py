"""The last N layers of a ResNet-50 are those that Keras would unfreeze, by Keras's own list of its layers."""

from __future__ import annotations

import pytest
import timm
import torch

from carspotter.training.layers import layers_of, still_layers

INPUTS = 3
"""The input and two paddings, which begin `keras.applications.ResNet50(include_top=False)` and torch has none of."""


def keras_layers() -> list[str]:
    """Write the 175 layers of that network in its order, as timm calls those with weights, else by their kind."""
    names = ["input", "pad", "conv1", "bn1", "relu", "pad", "pool"]
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            three = [f"{at}.conv1", f"{at}.bn1", "relu", f"{at}.conv2", f"{at}.bn2", "relu", f"{at}.conv3", f"{at}.bn3"]
            names += [*three, *([] if block else [f"{at}.downsample.0", f"{at}.downsample.1"]), "add", "relu"]
    return names


def test_a_resnet50_has_the_layers_of_keras() -> None:
    backbone = timm.create_model("resnet50", num_classes=0)
    theirs = keras_layers()
    assert len(theirs) == 175  # len(keras.applications.ResNet50(include_top=False).layers)
    passed = layers_of(backbone)
    assert len(passed) == len(theirs) - INPUTS
    names = {id(module): name for name, module in backbone.named_modules()}
    ours = ["add" if module is None else names[id(module)] for module in passed]
    with_weights = [name for name in theirs if "." in name or name in ("conv1", "bn1")]
    assert [name for name in ours if name in with_weights] == with_weights
    assert [i for i, name in enumerate(ours[::-1]) if name == "add"] == [
        i for i, name in enumerate(theirs[::-1]) if name == "add"
    ]


@pytest.mark.parametrize("count", [1, 9, 40, 100])
def test_the_last_layers_learn_as_in_keras(count: int) -> None:
    backbone = timm.create_model("resnet50", num_classes=0)
    still = {id(module) for module in still_layers(backbone, count)}
    learns = {
        name
        for name, module in backbone.named_modules()
        if id(module) not in still and next(module.parameters(recurse=False), None) is not None
    }
    assert learns == {name for name in keras_layers()[-count:] if "." in name}


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "resnetv2_50", "convnext_atto", "test_vit", "mobilenetv3_small_050"]
)
def test_each_weight_belongs_to_a_layer_and_looking_changes_nothing(name: str) -> None:
    backbone = timm.create_model(name, num_classes=0).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    passed = layers_of(backbone)
    assert backbone.training
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    counted = {id(module) for module in passed}
    owners = {id(m) for m in backbone.modules() if next(m.parameters(recurse=False), None) is not None}
    assert owners <= counted
