"""Networks of one's own: a callable in a package or a file, and what it does instead of making one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import deconvviz
from deconvviz.errors import DeconvvizError, DeconvvizTypeError, DeconvvizValueError, UnknownNameError, WeightsError
from deconvviz.network.network import Network

SOURCE = """
import torch
from torch import nn
import beside_it
import deconvviz

def make(classes=2):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))

def network():
    return deconvviz.Network(make(), 3, mean=(0.5,) * 3, std=(0.5,) * 3, labels=["a", "b"])

def trained():
    net = make()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.arange(p.numel()).view_as(p))
    return net

def fails():
    raise AttributeError("of my own")

def leaves():
    raise SystemExit(0)

ready = make()
class Group:
    make = staticmethod(make)
number = 3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in with a module, and one beside it that it imports."""
    (tmp_path / "my_nets.py").write_text(SOURCE)
    (tmp_path / "beside_it.py").write_text("")
    (tmp_path / "script.py").write_text("raise SystemExit('usage: …')")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("my_nets", "beside_it", "script")):
            del sys.modules[name]


@pytest.mark.parametrize("kind", ["my_nets", "my_nets.py", "{place}/my_nets.py"])
@pytest.mark.parametrize("attribute", ["make", "network", "ready", "Group.make"])
def test_a_module_and_a_file(kind: str, attribute: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind.startswith("{"):
        monkeypatch.chdir(place.parent)
    path = list(sys.path)
    net = deconvviz.load(f"{kind.format(place=place)}:{attribute}")
    assert isinstance(net.module, nn.Sequential) and not net.module.training and sys.path == path
    assert net.card.labels == (("a", "b") if attribute == "network" else ())
    assert net.card.spec == f"{kind.format(place=place)}:{attribute}"


def test_options_and_what_is_said_of_pictures(place: Path) -> None:
    net = deconvviz.load("my_nets:make", classes=5)
    assert net.module[3].out_features == 5  # type: ignore[index]
    with pytest.raises(DeconvvizValueError, match="no mean and std: wrap.*--mean and --std") as caught:
        net.preprocess(Image.new("RGB", (9, 9)))
    assert "\n" not in str(caught.value)
    net = deconvviz.load("my_nets.py:make", input_size=3, mean=(0.5,) * 3, std=(0.5,) * 3, labels=["x", "y"])
    assert net.preprocess(Image.new("RGB", (9, 12))).shape == (1, 3, 3, 3) and net.card.labels == ("x", "y")
    with pytest.raises(DeconvvizValueError, match="mean has 3 and std 0"):
        deconvviz.load("my_nets.py:make", mean=(0.5,) * 3)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod."])
def test_weights_of_a_file(prefix: str, place: Path) -> None:
    own = deconvviz.load("my_nets:make", seed=5).module
    save_file({f"{prefix}{k}": v.clone() for k, v in own.state_dict().items()}, place / "w.safetensors")
    net = deconvviz.load("my_nets:make", place / "w.safetensors")
    assert net.weights_hash() == Network(own).weights_hash()
    assert net.card.weights is not None and net.card.weights.name == "file"
    assert net.card.weights.note == (f"w.safetensors, its keys without the prefix '{prefix}'" if prefix else None)


def test_a_prefix_that_the_file_lacks(place: Path) -> None:
    inner = nn.Conv2d(3, 4, 3)
    outer = nn.Module()
    outer.add_module("model", inner)
    from deconvviz.network.weights import load_state

    other = nn.Conv2d(3, 4, 3)
    assert load_state(outer, other.state_dict(), "the file") == "with the prefix 'model.'"
    assert torch.equal(inner.weight, other.weight)
    with pytest.raises(WeightsError, match="missing: bias; unexpected: extra"):
        load_state(inner, {"weight": other.weight, "extra": other.weight}, "the file")


def test_random_weights_are_none_that_were_read(place: Path) -> None:
    net = deconvviz.load("my_nets:make", "random", seed=3)
    torch.manual_seed(3)
    assert torch.equal(net.module[0].weight, nn.Conv2d(3, 4, 3).weight)  # type: ignore[index]
    for name in ("trained", "ready"):
        first, other = (deconvviz.load(f"my_nets:{name}", "random", seed=s) for s in (0, 1))
        given = deconvviz.load(f"my_nets:{name}").module
        for a, b, c in zip(first.module.parameters(), other.module.parameters(), given.parameters(), strict=True):
            assert not torch.equal(a, c) or a.unique().numel() == 1
            assert not torch.equal(a, b) or a.unique().numel() == 1
        assert first.card.weights is not None and first.card.weights.name == "random"
    assert first.seen is not None and not len(first.seen)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("builtins:exit", DeconvvizValueError, "ended the program"),
        ("my_nets:leaves", DeconvvizValueError, r"my_nets:leaves ended the program \(exit code 0\)"),
        ("script:make", DeconvvizValueError, "importing 'script' ended the program"),
        ("script.py:make", DeconvvizValueError, "ended the program"),
        ("my_nets:fails", DeconvvizValueError, "my_nets:fails failed: AttributeError: of my own"),
        ("my_nets:number", DeconvvizTypeError, "is a int; allowed: a callable"),
        ("builtins:list", DeconvvizTypeError, "returned a list"),
        ("my_nets:mak", UnknownNameError, "cannot get 'mak' from 'my_nets'; did you mean 'make'"),
        ("no_such_package:make", UnknownNameError, "cannot import 'no_such_package': No module"),
        ("nowhere/my_nets.py:make", UnknownNameError, "no such file"),
        ("my_nets.py", UnknownNameError, "allowed: a name of the zoo"),
        (":make", UnknownNameError, "allowed"),
        ("my_nets:", UnknownNameError, "allowed"),
    ],
)
def test_what_makes_no_network(spec: str, error: type[DeconvvizError], said: str, place: Path) -> None:
    with pytest.raises(error, match=said) as caught:
        deconvviz.load(spec)
    assert "\n" not in str(caught.value)


def test_a_name_of_weights(place: Path) -> None:
    with pytest.raises(UnknownNameError, match="no weights 'imagenet' for my_nets:make; allowed: none"):
        deconvviz.load("my_nets:make", "imagenet")
    with pytest.raises(WeightsError, match="missing"):
        deconvviz.load("my_nets:make", "nowhere.safetensors")
