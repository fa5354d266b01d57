"""A transform of the user's is used as it is; what figures need is read out of it, or said to be unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision.models import ResNet50_Weights, ViT_B_16_Weights
from torchvision.transforms import InterpolationMode, v2

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, DeconvvizWarning
from deconvviz.network.network import Network

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
Transform = Callable[[Any], Any]


def net_of(transform: Transform, channels: int = 3, **facts: Any) -> Network:
    return Network(nn.Conv2d(channels, 2, 3), transform=transform, **facts)


def old(*steps: Any) -> Transform:
    return v1.Compose([*steps, v1.ToTensor(), v1.Normalize(MEAN, STD)])


def new(*steps: Any) -> Transform:
    return v2.Compose([v2.ToImage(), *steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


# What the input shows of a picture of 240 x 301: top, left, bottom, right.
CENTRE, WHOLE = (240 * 16 / 128, 301 * 32 / 160, 240 * 112 / 128, 301 * 128 / 160), (0, 0, 240, 301)
KNOWN: dict[str, tuple[Transform, tuple[float, ...] | None]] = {
    "shorter side, cut": (old(v1.Resize(128), v1.CenterCrop(96)), CENTRE),
    "bicubic": (old(v1.Resize(128, InterpolationMode.BICUBIC), v1.CenterCrop((96, 96))), CENTRE),
    "nearest": (old(v1.Resize(128, InterpolationMode.NEAREST), v1.CenterCrop(96)), CENTRE),
    "exact": (old(v1.Resize((96, 128))), WHOLE),
    "exact, cut": (old(v1.Resize((128, 160)), v1.CenterCrop(96)), CENTRE),
    "whole": (old(v1.Resize(64)), WHOLE),
    "second generation": (new(v2.Resize(128, antialias=True), v2.CenterCrop(96)), CENTRE),
    "nested": (v1.Compose([v1.Compose([v1.Resize(128), v1.CenterCrop(96)]), old()]), CENTRE),
    "a module": (nn.Sequential(v1.Resize(128), v1.CenterCrop(96), v2.PILToTensor(),
                               v1.ConvertImageDtype(torch.float), v1.Normalize(MEAN, STD)), CENTRE),
    "a function at the end": (v1.Compose([v1.Resize(128), v1.CenterCrop(96), v1.ToTensor(),
                                          v1.Lambda(lambda x: 2 * x - 1)]), CENTRE),
    "0 to 255": (v2.Compose([v2.Resize((96, 96)), v2.PILToTensor(), v2.ToDtype(torch.float32),
                             v2.Normalize([255 * m for m in MEAN], [255 * s for s in STD])]), WHOLE),
    "no normalisation": (v1.Compose([v1.Resize((96, 96)), v1.ToTensor()]), WHOLE),
    "turned": (old(v1.Resize((96, 96)), v1.Lambda(lambda p: p.rotate(90))), None),
    "framed": (old(v1.Resize((96, 96)), v1.Pad(8)), None),
    "cut elsewhere": (old(v1.Resize(128), v1.Lambda(lambda p: p.crop((0, 0, 96, 96)))), None),
    "cut before": (old(v1.CenterCrop(96), v1.Resize(128)), None),
    "torchvision's own": (ResNet50_Weights.IMAGENET1K_V2.transforms(), (4.1, 34.1, 235.9, 266.4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KNOWN)
def test_the_input_is_the_transforms(kind: str, picture: Image.Image) -> None:
    transform, region = KNOWN[kind]
    net = net_of(transform)
    x, expected = net.preprocess(picture), torch.as_tensor(transform(picture))
    assert type(x) is Tensor and torch.allclose(x[0], expected, rtol=0, atol=1e-6)
    if region is None:
        with pytest.raises(DeconvvizValueError, match="where the input lies in the picture cannot be read"):
            net.shown_region((240, 301))
    else:
        assert net.shown_region((240, 301)) == pytest.approx(region, abs=1.0)
        assert net.card.input_size == x.shape[2:] or kind == "whole"


@pytest.mark.parametrize("kind", KNOWN)
def test_pixels_come_back(kind: str) -> None:
    """A picture of one colour is that colour again."""
    colour = (51, 102, 204)
    pixels = (net := net_of(KNOWN[kind][0])).denormalise(net.preprocess(Image.new("RGB", (301, 240), colour)))[0]
    middle = pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2]
    assert (middle * 255).tolist() == pytest.approx(colour, abs=0.01)


def test_what_is_stated_is_taken_to_the_digit() -> None:
    net = net_of(old(v1.Resize(128), v1.CenterCrop(96)))
    assert (net.card.mean, net.card.std) == (MEAN, STD)
    assert (net.card.resize, net.card.crop, net.card.interpolation) == (128, "center", "bilinear")
    assert net_of(ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.transforms()).card.input_size == (384, 384)


def test_grey_networks_get_grey_pictures(picture: Image.Image) -> None:
    transform = v1.Compose([v1.Resize((28, 28)), v1.ToTensor(), v1.Normalize((0.3,), (0.4,))])
    net = net_of(transform, channels=1)
    assert torch.equal(net.preprocess(picture)[0], transform(picture.convert("L"))) and net.card.mean == (0.3,)
    colour = net_of(transform)
    assert colour.preprocess(picture).shape == (1, 3, 28, 28) and colour.card.mean == (0.3,) * 3


def test_a_transform_of_tensors(picture: Image.Image) -> None:
    transform = v2.Compose(
        [v2.Resize((32, 32), antialias=True), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )
    assert torch.equal(net_of(transform).preprocess(picture)[0], transform(v2.functional.pil_to_tensor(picture)))


def test_colours_that_cannot_be_read(picture: Image.Image) -> None:
    transform = v1.Compose([v1.Resize((32, 32)), v1.ToTensor(), v1.Lambda(lambda x: x * x)])
    net = net_of(transform)
    x = net.preprocess(picture)
    with pytest.raises(DeconvvizValueError, match="mean and std cannot be read out of this transform; give them"):
        net.denormalise(x)
    assert net_of(transform, mean=MEAN, std=STD).denormalise(x).max() <= 1


@pytest.mark.parametrize(
    ("transform", "error", "said"),
    [
        (v1.Compose([v1.RandomResizedCrop(32), v1.ToTensor()]), DeconvvizValueError, "random"),
        (v1.Compose([v1.TenCrop(32), v1.Lambda(lambda c: torch.stack([v1.ToTensor()(x) for x in c]))]),
         DeconvvizTypeError, r"a tensor \(10, 3, 32, 32\)"),
        (v1.Resize(32), DeconvvizTypeError, "makes Image; allowed"),
        (v1.PILToTensor(), DeconvvizTypeError, "uint8"),
        (lambda x: x.nothing, DeconvvizTypeError, "the transform fails on a picture: .*nothing"),
        (3, DeconvvizTypeError, "transform is a int"),
    ],
)  # fmt: skip
def test_what_is_no_transform(transform: Any, error: type[Exception], said: str) -> None:
    module, before = nn.Conv2d(3, 2, 3), torch.get_rng_state()
    with pytest.raises(error, match=said) as caught:
        Network(module, transform=transform)
    assert "\n" not in str(caught.value) and torch.equal(before, torch.get_rng_state())


def test_either_a_transform_or_how_to_fit() -> None:
    for more in ({"resize": 32}, {"crop": None}, {"interpolation": "bicubic"}):
        with pytest.raises(DeconvvizValueError, match="either transform or resize"):
            net_of(v1.ToTensor(), **more)


def test_other_sizes_and_colours_take_it_apart(picture: Image.Image) -> None:
    net = net_of(old(v1.Resize(128, InterpolationMode.BICUBIC), v1.CenterCrop(96))).adjusted(input_size=48)
    expected = old(v1.Resize(64, InterpolationMode.BICUBIC), v1.CenterCrop(48))(picture)
    assert torch.allclose(net.preprocess(picture)[0], torch.as_tensor(expected), atol=1e-6)
    assert net.adjusted(labels=["a"]).card.labels == ("a",) and net.adjusted(mean=0.5, std=0.5).card.channels == 1
    with pytest.raises(DeconvvizValueError, match="cannot be taken apart"):
        net_of(KNOWN["turned"][0]).adjusted(input_size=48)


def test_swapped_colours_are_said() -> None:
    with pytest.warns(DeconvvizWarning, match="channels as B-G-R; figures"):
        net_of(v1.Compose([old(v1.Resize(24)), v1.Lambda(lambda x: x.flip(0))]))
    mixed = v1.Lambda(lambda x: torch.stack([x.mean(0), x[1], x[2]]))
    with pytest.warns(DeconvvizWarning, match="mixtures of red, green and blue"):
        net_of(v1.Compose([v1.ToTensor(), mixed]))


def test_what_a_store_keeps_of_it() -> None:
    first, again = (net_of(old(v1.Resize(128))).preparation() for _ in range(2))
    assert first == again and "Resize(size=128" in first["transform"]
    assert "transform" not in Network(nn.Conv2d(3, 1, 1), 32, MEAN, STD).preparation()
    assert " at 0x" not in net_of(lambda p: v1.ToTensor()(p)).preparation()["transform"]
