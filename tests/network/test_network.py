"""Network and load: preprocessing, weights policies, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deconvviz.errors import (
    DeconvvizTypeError,
    DeconvvizValueError,
    DeconvvizWarning,
    UnknownNameError,
    UnsupportedOperatorError,
    WeightsError,
)
from deconvviz.network.load import load
from deconvviz.network.network import Network
from deconvviz.network.weights import read_weights

PIL = pytest.importorskip("PIL.Image")


def picture(width: int, height: int, mode: str = "RGB") -> object:
    noise = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return PIL.fromarray(noise.numpy()).convert(mode)


@pytest.mark.parametrize("size", [(300, 240), (241, 403), (100, 90), (224, 224), (256, 257)])
def test_preprocess_equals_torchvision(size: tuple[int, int]) -> None:
    from torchvision.models import AlexNet_Weights

    net = load("alexnet", "random")
    image = picture(*size)
    expected = AlexNet_Weights.IMAGENET1K_V1.transforms()(image)
    assert torch.allclose(net.preprocess(image)[0], expected, atol=1e-6)  # type: ignore[arg-type]


def test_a_tensor_comes_back_as_a_plain_copy() -> None:
    class Special(Tensor):
        pass

    net = Network(nn.Conv2d(3, 4, 3).double())
    given = torch.randn(3, 8, 8).as_subclass(Special).requires_grad_()
    x = net.preprocess(given)
    assert type(x) is Tensor and x.dtype == torch.float64 and x.shape == (1, 3, 8, 8) and not x.requires_grad
    same = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    kept = net.preprocess(same)
    before = kept.clone()
    same.zero_()
    assert kept.equal(before)


def test_preprocess_grey_and_value_range() -> None:
    grey = load("lenet", "random").preprocess(picture(28, 28))  # type: ignore[arg-type]
    assert grey.shape == (1, 1, 28, 28)
    assert load("lenet", "random").denormalise(grey).max() <= 1


def test_denormalise_inverts() -> None:
    net = Network(nn.Conv2d(3, 1, 1), 32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
    image = picture(32, 32)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(32, 32, 3)  # type: ignore[attr-defined]
    assert torch.allclose(net.denormalise(net.preprocess(image))[0].permute(1, 2, 0) * 255, pixels.float(), atol=1e-3)  # type: ignore[arg-type]


def test_a_strip_needs_little_memory() -> None:
    net = Network(nn.Conv2d(3, 1, 1), 32, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert net.preprocess(PIL.new("RGB", (20000, 1))).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (torch.zeros(3, 8, 8, dtype=torch.uint8), DeconvvizTypeError),
        (torch.zeros(2, 3, 8, 8), DeconvvizValueError),
        (torch.zeros(8, 8), DeconvvizValueError),
        (torch.zeros(1, 8, 8), DeconvvizValueError),
        (3, DeconvvizTypeError),
    ],
)
def test_preprocess_refuses(image: object, error: type[Exception]) -> None:
    net = Network(nn.Conv2d(3, 1, 1), 8, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(error, match="allowed|takes"):
        net.preprocess(image)  # type: ignore[arg-type]


def test_a_picture_without_mean_is_an_error() -> None:
    with pytest.raises(DeconvvizValueError, match="mean and std"):
        Network(nn.Conv2d(3, 1, 1)).preprocess("x.jpg")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.5,), "std": (0.5,) * 3},
        {"mean": (0.5,) * 2, "std": (0.5,) * 2},
        {"mean": (0.5,), "std": (0.0,)},
        {"mean": "abc", "std": 1.0},
        {"input_size": 0},
        {"aliases": {"5": "nowhere"}},
    ],
)
def test_wrong_facts(wrong: dict[str, object]) -> None:
    with pytest.raises((DeconvvizValueError, DeconvvizTypeError)):
        Network(nn.Conv2d(3, 1, 1), **wrong)  # type: ignore[arg-type]


def test_random_is_seeded_and_leaves_the_generator() -> None:
    before = torch.get_rng_state()
    first, again, other = load("lenet", "random"), load("lenet", "random"), load("lenet", "random", seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert first.weights_hash() == again.weights_hash() != other.weights_hash()
    assert not first.module.training


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="'zfnet'"):
        load("zfnt")
    with pytest.raises(WeightsError, match="random"):
        load("lenet", "no-such-file.safetensors")
    with pytest.raises(WeightsError, match="no weights"):
        load("lenet", Path("no-such-folder") / "file")
    with pytest.raises(
        UnknownNameError, match="no weights 'bundeld' for lenet; allowed: bundled.*did you mean 'bundled'"
    ):
        load("lenet", "bundeld")
    with pytest.raises(WeightsError, match="resnet18_32 has no trained weights"):
        load("resnet18_32")
    with pytest.raises(DeconvvizValueError, match="clases"):
        load("lenet", "random", clases=3)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    source = load("lenet", "random", seed=3)
    half = {k: v.half() for k, v in source.module.state_dict().items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in half.items()}}, path)
    else:
        save_file(half, path)
    net = load("lenet", path)
    state = net.module.state_dict()
    assert all(v.dtype == torch.float32 and torch.equal(v, half[k].float()) for k, v in state.items())


def test_facts_stored_with_the_weights(tmp_path: Path) -> None:
    source = load("lenet", "random", classes=2)
    assert source.card.labels == ()
    metadata = {"labels": json.dumps(["cat", "dog"]), "options": json.dumps({"classes": 2})}
    save_file(source.module.state_dict(), tmp_path / "w.safetensors", metadata)
    assert load("lenet", tmp_path / "w.safetensors").card.labels == ("cat", "dog")


def test_a_mismatch_lists_the_keys(tmp_path: Path) -> None:
    state = load("lenet", "random").module.state_dict()
    state["extra"] = torch.zeros(1)
    state["features.conv1.weight"] = torch.zeros(2, 2)
    del state["classifier.fc5.bias"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        load("lenet", tmp_path / "w.safetensors")
    for key in (
        "missing: classifier.fc5.bias",
        "unexpected: extra",
        "features.conv1.weight (2, 2) instead of",
    ):
        assert key in str(caught.value)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(1, 1, 1), tmp_path / "module.pth")
    with pytest.raises(WeightsError, match="a pickled torch.nn.modules.conv.Conv2d; allowed: tensors"):
        load("lenet", tmp_path / "module.pth")


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kw: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    for name, file in (("resnet18", "resnet18-f37072fd.pth"), ("zfnet512", "zfnet512-12.onnx")):
        with pytest.raises(WeightsError, match=file) as caught:
            load(name, "imagenet")
        assert "https://" in str(caught.value) and str(tmp_path / "checkpoints" / file) in str(caught.value)
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="SHA-256"):
        load("resnet18", "imagenet")


def test_damaged_bundled_file(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="SHA-256"):
        read_weights(tmp_path / "w.safetensors", "0" * 64)


class Focus(nn.Module):
    """Slices side by side, as YOLO's; a convolution that is made first and runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Conv2d(7, 2, 1), nn.Conv2d(12, 7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[..., a::2, b::2] for b in (0, 1) for a in (0, 1)], 1)
        return self.last(self.first(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "maps"),
    [
        (nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 5, 1), nn.ReLU()), [48, 5, 5]),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 5, 1)), [4, 5]),
        (Focus(), [7, 2]),
        (nn.Sequential(nn.ConvTranspose2d(10, 6, 4, 2), nn.ReLU(), nn.Conv2d(6, 3, 3)), [6, 6, 3]),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)), [4, 2]),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)), [5]),
        (nn.Sequential(nn.Flatten(), nn.Linear(16 * 16, 5)), [5]),
    ],
    ids=["unshuffled", "grey and unshuffled", "focus", "generator", "grey", "no convolution", "no convolution, grey"],
)
def test_layers_know_the_channels_without_a_card(module: nn.Module, maps: list[int]) -> None:
    assert [layer.maps for layer in Network(module).layers(16)][-len(maps) :] == maps


def test_layers_of_a_generator_that_begins_with_a_linear_layer() -> None:
    first = nn.Linear(10, 8 * 16)
    module = nn.Sequential(
        nn.Flatten(), first, nn.Unflatten(1, (8, 4, 4)), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1)
    )
    rows = Network(module).layers(1)
    assert [(row.maps, row.size) for row in rows][1:] == [(128, None), (8, (4, 4)), (8, (4, 4)), (3, (8, 8))]
    with pytest.raises(DeconvvizValueError, match="layer '1' takes 10 numbers and got"):  # no picture of 16×16 has them
        Network(module).layers(16)


def test_layers_before_what_ends_the_recording() -> None:
    class Chooses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[torch.nonzero(x.amax((1, 2, 3)) > 0)[:, 0]]

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Chooses(), nn.Conv2d(4, 2, 1))
    with pytest.warns(DeconvvizWarning, match="up to where the recording ended: operator 'nonzero' in layer '2'"):
        assert [row.name for row in Network(module).layers(16)] == ["0", "1"]
    with pytest.raises(UnsupportedOperatorError, match="'nonzero' in layer '0'"):
        Network(nn.Sequential(Chooses(), nn.Conv2d(3, 4, 1))).layers(16)


def test_layers_of_a_network_for_sequences_are_one_line() -> None:
    with pytest.raises(DeconvvizValueError, match="layer '0' is a 1-d convolution, and this network begins with it"):
        Network(nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU())).layers(16)
