"""Invariance: against plain loops, on nets whose answer to a transform is known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import deconvviz
from deconvviz import Network, invariance
from deconvviz.data.transforms import TRANSFORMS, default_values, warp
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, ImageError, UnknownNameError

INPUTS = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(3))


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 5)
    )  # fmt: skip


LABELS = ("ant", "bass", "chair", "crab", "emu")


def net() -> Network:
    return Network(build(), 20, (0.5,) * 3, (0.25,) * 3, LABELS, {"1": "0", "7": "4"})


@pytest.mark.parametrize(("fill", "batch"), [("grey", 64), ("reflect", 7), (0.7, 40)])
def test_every_number_against_a_plain_loop(fill: Any, batch: int) -> None:
    model = net()
    kinds = list(TRANSFORMS)
    result = invariance(model, INPUTS, ["crab", 1], kinds, fill=fill, batch=batch)
    layers = model.module
    assert result.targets == (3, 1) and result.labels == ("crab", "bass") and result.transforms == tuple(kinds)
    assert result.layers == ("1", "7") and result.low.dtype == torch.float64
    with torch.no_grad():
        for n, picture in enumerate(INPUTS):
            low, high = layers[:2](picture[None]), layers[:6](picture[None])  # type: ignore[index]
            torch.testing.assert_close(result.norms[n].float(), torch.stack([low.norm(), high.norm()]))
            for kind in kinds:
                curve = result.curve(kind)
                assert curve.values.tolist() == list(default_values(kind, 20))
                for v, value in enumerate(curve.values.tolist()):
                    x = warp(picture, kind, [value], fill)
                    torch.testing.assert_close(curve.low[n, v].float(), (layers[:2](x) - low).norm())  # type: ignore[index]
                    torch.testing.assert_close(curve.high[n, v].float(), (layers[:6](x) - high).norm())  # type: ignore[index]
                    probability = layers(x).softmax(1)[0, result.targets[n]]
                    torch.testing.assert_close(curve.probability[n, v].float(), probability)  # type: ignore[index]


def test_the_untransformed_picture_is_at_distance_zero() -> None:
    result = invariance(net(), INPUTS, transforms=list(TRANSFORMS))
    for kind, found in TRANSFORMS.items():
        curve = result.curve(kind)
        at = curve.values.tolist().index(found.identity)
        assert not curve.low[:, at].any() and not curve.high[:, at].any()
        assert curve.low.sum() > 0 and curve.high.sum() > 0


def test_a_layer_that_cannot_tell_where_something_is() -> None:
    """A blob on the colour of the padding and a mean over all places: shifts that lose nothing leave the mean alone."""

    class Equivariant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).relu().mean((2, 3))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Equivariant().double()
    picture = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    picture[0, 0, 4:7, 5:8] = torch.randn(3, 3, dtype=torch.float64)
    moved = {"translation": range(-3, 5), "horizontal": [-4, 0, 3], "rotation": [0, 180], "flip": [0, 1]}
    result = invariance(model, picture, transforms=moved, low="conv", high="")
    for kind in ("translation", "horizontal"):
        curve = result.curve(kind)
        assert curve.high.abs().max() < 1e-12
        assert torch.allclose(curve.probability, curve.probability[:, :1], atol=1e-12)  # type: ignore[arg-type, index]
        out = model.conv(picture).detach()
        for v, shift in enumerate(curve.values.long().tolist()):
            expected = (torch.roll(out, shift, 2 if kind == "translation" else 3) - out).norm()
            torch.testing.assert_close(curve.low[0, v], expected)
    assert result.curve("flip").high[0, 1] > 1e-3


def test_the_model_s_own_class_is_followed_without_labels() -> None:
    model = net()
    result = invariance(model, INPUTS, transforms="flip")
    top = model.module(INPUTS).argmax(1).tolist()
    assert list(result.targets) == top and result.labels == tuple(LABELS[t] for t in top)
    assert result.policy["labels"] == "own top class"
    assert invariance(model, INPUTS, "emu", "flip").targets == (4, 4)
    assert invariance(model, INPUTS, torch.tensor([2, 0]), "flip").labels == ("chair", "ant")
    assert invariance(model.module, INPUTS, 2, "flip", "0", "4").labels == ("class 2", "class 2")


def test_a_model_without_logits_has_no_probability() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    result = invariance(model, INPUTS, low="0", high="1")
    assert result.probability is None and result.targets == () and result.labels == ("", "")
    assert result.curve("scale").probability is None and result.curve("scale").low.any()
    with pytest.raises(DeconvvizValueError, match="labels are for a model whose output is logits"):
        invariance(model, INPUTS, 1, low="0", high="1")


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    picture = Image.new("RGB", (30, 25), "red")
    picture.save(tmp_path / "red.png")
    result = invariance(net(), [tmp_path / "red.png", picture, INPUTS[0]], transforms="flip")
    assert result.names == ("red.png", "picture 2", "picture 3") and result.images[0].equal(result.images[1])
    assert result.images[2].equal(INPUTS[0])
    assert invariance(net(), str(tmp_path / "red.png"), transforms="flip").names == ("red.png",)


def test_one_layer_for_both_and_a_module() -> None:
    model = net()
    result = invariance(model, INPUTS[0], transforms="flip", low=model.module[0], high="0")  # type: ignore[index]
    assert result.layers == ("0", "0") and result.low.equal(result.high)


def test_progress_and_few_passes() -> None:
    seen: list[tuple[int, int]] = []
    passes: list[int] = []
    model = net()
    handle = model.module.register_forward_pre_hook(lambda _m, a: passes.append(len(a[0])))
    values = {"translation": range(-5, 6), "scale": [1, 1.5]}
    invariance(model, INPUTS, transforms=values, batch=8, progress=lambda *at: seen.append(at))
    handle.remove()
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert passes[-4:] == [8, 3, 8, 3], "translations and scales share a pass, the untransformed ones are not run"


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"transforms": ["shear"]}, UnknownNameError, "unknown transform 'shear'; allowed: translation"),
    ({"transforms": {"scale": [0]}}, DeconvvizValueError, "scale is 0"),
    ({"transforms": {}}, DeconvvizValueError, "transforms is empty"),
    ({"labels": "cat"}, UnknownNameError, "'cat' is not a label.*crab"),
    ({"labels": [1, 2, 3]}, DeconvvizValueError, "labels has 3 for 2 pictures"),
    ({"labels": 5}, DeconvvizValueError, "0 to 4"),
    ({"fill": "black"}, UnknownNameError, "fill is 'black'; allowed: 'grey'"),
    ({"batch": 0}, DeconvvizValueError, "batch is 0"),
    ({"images": []}, DeconvvizValueError, "images is empty"),
    ({"images": [INPUTS[0], INPUTS[0][:, :9]]}, DeconvvizValueError, "sizes"),
    ({"images": "nowhere.jpg"}, ImageError, "no such picture"),
    ({"images": 7}, DeconvvizTypeError, "image is a int"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_errors(options: dict[str, Any], error: type[Exception], message: str) -> None:
    model = net()
    with pytest.raises(error, match=message) as caught:
        invariance(model, **{"images": INPUTS, **options})
    assert "\n" not in str(caught.value)
    assert not any(m._forward_hooks for m in model.module.modules())


def test_layers_must_be_given_where_no_alias_is_a_number() -> None:
    with pytest.raises(DeconvvizValueError, match="give low and high"):
        invariance(build(), INPUTS)
    with pytest.raises(DeconvvizValueError, match="give low and high"):
        invariance(build(), INPUTS, low="0")
    with pytest.raises(UnknownNameError, match="unknown layer '9'"):
        invariance(net(), INPUTS, low="9")


def test_the_function_is_not_its_module() -> None:
    import importlib

    module = importlib.import_module("deconvviz.analyses.invariance.compute")
    assert deconvviz.invariance is module.invariance is invariance
