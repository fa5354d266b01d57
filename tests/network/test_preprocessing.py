"""How a picture fits the input, by what is said: against torchvision, Pillow, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, ImageError, UnknownNameError
from deconvviz.network.network import Network

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def net_of(size: Any = 96, **facts: Any) -> Network:
    return Network(nn.Conv2d(3, 2, 3), size, MEAN, STD, **facts)


def theirs(picture: Image.Image, *steps: Any) -> torch.Tensor:
    made: torch.Tensor = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])(picture)
    return made


BICUBIC = transforms.InterpolationMode.BICUBIC
SAID: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "nothing": ({}, [transforms.Resize(96), transforms.CenterCrop(96)]),
    "resize": ({"resize": 128}, [transforms.Resize(128), transforms.CenterCrop(96)]),
    "smaller than the input": ({"resize": 75}, [transforms.Resize(75), transforms.CenterCrop(96)]),
    "bicubic": (
        {"resize": 128, "interpolation": "bicubic"},
        [transforms.Resize(128, BICUBIC), transforms.CenterCrop(96)],
    ),
    "exact, cut": ({"resize": (128, 160)}, [transforms.Resize((128, 160)), transforms.CenterCrop(96)]),
    "no crop": ({"crop": None}, [transforms.Resize((96, 96))]),
    "no crop, shorter side": ({"crop": None, "resize": 64}, [transforms.Resize(64)]),
    "no crop, exact": ({"crop": None, "resize": (40, 50)}, [transforms.Resize((40, 50))]),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", SAID)
def test_equals_torchvision(kind: str, turned: bool, picture: Image.Image) -> None:
    given, steps = SAID[kind]
    shown = picture.transpose(Image.Transpose.ROTATE_90) if turned else picture
    assert torch.allclose(net_of(**given).preprocess(shown)[0], theirs(shown, *steps), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(96, 96), (64, 128), (128, 64)])
def test_letterbox_equals_pillow(size: tuple[int, int], picture: Image.Image) -> None:
    colour = tuple(round(255 * m) for m in MEAN)
    framed = ImageOps.pad(picture, size[::-1], Image.Resampling.BILINEAR, color=colour)
    net = net_of(size, crop="letterbox")
    assert torch.allclose(net.preprocess(picture)[0], theirs(framed), rtol=0, atol=1e-6)
    top, left, bottom, right = net.shown_region((240, 301))
    scale = min(size[0] / 240, size[1] / 301)
    assert (bottom - top, right - left) == pytest.approx((size[0] / scale, size[1] / scale), abs=3)
    assert (top + bottom, left + right) == pytest.approx((240, 301), abs=1.01 / scale)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"crop": "centre"}, UnknownNameError),
        ({"interpolation": "cubic"}, UnknownNameError),
        ({"resize": 0}, DeconvvizValueError),
        ({"resize": (1, 2, 3)}, DeconvvizValueError),
    ],
)
def test_what_is_not_allowed(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="allowed"):
        net_of(**wrong)


def test_a_strip_is_refused_where_nothing_may_be_cut() -> None:
    with pytest.raises(ImageError, match="4000 x 1 pixels, a strip"):
        net_of(crop=None, resize=96).preprocess(Image.new("RGB", (4000, 1)))
    assert net_of(crop="letterbox").preprocess(Image.new("RGB", (20000, 1))).shape == (1, 3, 96, 96)


def test_arrays_are_pictures(picture: Image.Image) -> None:
    net, pixels = net_of(), np.asarray(picture)
    assert torch.equal(net.preprocess(pixels), net.preprocess(picture))
    assert torch.equal(net.preprocess(pixels[::-1]), net.preprocess(ImageOps.flip(picture)))
    grey = pixels[..., :1]
    assert torch.equal(net.preprocess(grey), net.preprocess(grey[..., 0]))
    inputs, names = net.inputs(np.stack([pixels, pixels]))
    assert inputs.shape == (2, 3, 96, 96) and names == ("picture 1", "picture 2")
    assert net.inputs([pixels, picture])[0].shape == (2, 3, 96, 96)
    with pytest.raises(DeconvvizTypeError, match="float64 array; allowed: uint8"):
        net.preprocess(pixels / 255)
    with pytest.raises(ImageError, match=r"an array \(240, 301, 2\)"):
        net.preprocess(pixels[..., :2])
    with pytest.raises(ImageError, match="no pixels"):
        net.preprocess(pixels[:0])


def test_a_folder_and_a_data_set(tmp_path: Any, picture: Image.Image) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    picture.save(tmp_path / "a" / "deep" / "1.png")
    picture.save(tmp_path / "2.png")
    net = net_of()
    inputs, names = net.inputs(tmp_path)
    assert names == ("2.png", "a/deep/1.png") and torch.equal(inputs[0], inputs[1])
    data = TensorDataset(inputs, torch.tensor([0, 1]))
    for given in (data, DataLoader(data, batch_size=2), DataLoader(data, shuffle=True)):
        assert torch.equal(net.inputs(given)[0], inputs)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite(value: float) -> None:
    x = torch.zeros(3, 4, 5)
    x[1, 2, 3] = value
    for model in (net_of(), Network.of(nn.Conv2d(3, 2, 3))):
        with pytest.raises(ImageError, match=rf"not finite, the first {value} at \(0, 1, 2, 3\)"):
            model.preprocess(x)
    assert not net_of(allow_nonfinite=True).preprocess(x).isfinite().all()
    depth = np.zeros((8, 9), np.float32)
    depth[4, 5] = value
    picture = Image.fromarray(depth)
    with pytest.raises(ImageError, match=f"not finite: {value} at row 4, column 5"):
        net_of().preprocess(picture)
    assert net_of(allow_nonfinite=True).preprocess(picture).isfinite().all()  # black there
