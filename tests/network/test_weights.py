"""Files of weights that are none: one `WeightsError` each, in one line that names the tensor."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import deconvviz
from deconvviz.errors import WeightsError
from deconvviz.network.network import Network
from deconvviz.network.weights import fitted_keys, load_state, read_weights


def unusual(make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """A tensor of a kind that torch warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


WRONG: dict[str, tuple[Any, str]] = {
    "complex": ({"a": torch.ones(2, dtype=torch.complex64)}, "complex: 'a'"),
    "sparse": ({"a": torch.eye(2).to_sparse()}, "sparse: 'a'|neither"),
    "compressed": ({"a": unusual(torch.eye(2).to_sparse_csr)}, "sparse: 'a'|neither"),
    "quantised": (
        {"a": unusual(lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))},
        "quantised: 'a'|neither",
    ),
    "meta": ({"a": torch.ones(2, device="meta")}, "meta device, without values: 'a'|neither"),
    "integer keys": ({0: torch.ones(2)}, "the key 0; allowed: names"),
    "numbers": ({"a": 3}, "'a' is a int"),
    "a list": ([torch.ones(2)], "no state dict"),
    "a tensor": (torch.ones(2), "no state dict"),
    "nothing": ({}, "no state dict"),
    "nested": ({"state_dict": {"a": {"b": torch.ones(2)}}}, "'a' is a dict"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_state_dict(kind: str, tmp_path: Path) -> None:
    made, said = WRONG[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(made, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=said) as caught:
        read_weights(tmp_path / "w.pth")
    assert "\n" not in str(caught.value) and "w.pth" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text"),
    [("labels", '{"a": 1}'), ("labels", "[1, 2]"), ("labels", "cat"), ("options", "[]"), ("options", "3"),
     ("model", "3"), ("pictures", "[]"), ("pictures", "{")],
)  # fmt: skip
def test_facts_of_the_wrong_kind(key: str, text: str, tmp_path: Path) -> None:
    save_file(deconvviz.load("lenet", "random").module.state_dict(), tmp_path / "w.safetensors", {key: text})
    with pytest.raises(WeightsError, match=f"says of its '{key}'.*; allowed: a.*, as JSON"):
        deconvviz.load("lenet", tmp_path / "w.safetensors")


def test_options_that_the_network_does_not_have(tmp_path: Path) -> None:
    facts = {"options": json.dumps({"clases": 3})}
    save_file(deconvviz.load("lenet", "random").module.state_dict(), tmp_path / "w.safetensors", facts)
    with pytest.raises(deconvviz.DeconvvizValueError, match="cannot be built"):
        deconvviz.load("lenet", tmp_path / "w.safetensors")


@pytest.mark.parametrize("damage", [b"", b"x", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0[1,2,3]x"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files(suffix: str, damage: bytes, tmp_path: Path) -> None:
    (tmp_path / f"w{suffix}").write_bytes(damage)
    with pytest.raises(WeightsError, match="neither safetensors nor a plain state dict") as caught:
        read_weights(tmp_path / f"w{suffix}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    state = deconvviz.load("lenet", "random").module.state_dict()
    state["features.conv2.weight"][1, 2, 0, 0] = value
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"'features.conv2.weight' has {value} at \(1, 2, 0, 0\)"):
        deconvviz.load("lenet", tmp_path / "w.safetensors")
    net = deconvviz.load("lenet", tmp_path / "w.safetensors", allow_nonfinite=True)
    assert not net.module.get_parameter("features.conv2.weight").isfinite().all()
    with pytest.raises(WeightsError, match=r"the network holds weights.*'features.conv2.weight'"):
        Network(net.module)
    Network(net.module, allow_nonfinite=True)


def test_buffers_that_are_not_finite() -> None:
    module = nn.BatchNorm2d(2)
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]))  # what is not looked at
    Network(module)
    assert module.running_var is not None
    module.running_var[1] = torch.nan
    with pytest.raises(WeightsError, match=r"'running_var' has nan at \(1,\)"):
        Network(module)


def test_prefixes() -> None:
    inner = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1))
    own = inner.state_dict()
    assert fitted_keys(own, inner) == (dict(own), None)
    for prefix in ("module.", "model.", "module.model.", "net.backbone."):
        state, said = fitted_keys({prefix + key: value for key, value in own.items()}, inner)
        assert list(state) == list(own) and said == f"without the prefix '{prefix}'"
    outer = nn.Sequential()
    outer.add_module("model", inner)
    state, said = fitted_keys(own, outer)
    assert list(state) == list(outer.state_dict()) and said == "with the prefix 'model.'"
    assert fitted_keys({"other": torch.ones(1)}, inner)[1] is None


def test_a_network_inside_of_a_training_module() -> None:
    own = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1))
    held = {f"model.{key}": value for key, value in own.state_dict().items()}
    state, said = fitted_keys({**held, "loss.weight": torch.ones(3)}, own)
    assert list(state) == list(own.state_dict()) and said == "without the prefix 'model.', and without loss.weight"
    twice = {**held, **{f"teacher.{key}": value for key, value in own.state_dict().items()}}
    assert fitted_keys(twice, own) == (twice, None)  # which one is meant is not guessed
    wider = {**held, "loss.weight": torch.ones(3), "model.0.weight": torch.ones(2, 1, 1, 1)}
    assert fitted_keys(wider, own)[1] is None


def test_a_state_dict_by_whatever_name(tmp_path: Path) -> None:
    state = {"a": torch.ones(2)}
    beside = {"epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    torch.save({"net": state, **beside}, tmp_path / "w.pth")
    assert torch.equal(read_weights(tmp_path / "w.pth")[0]["a"], state["a"])
    torch.save({"net": state, "ema": state, **beside}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds several state dicts: net, ema"):
        read_weights(tmp_path / "w.pth")


def test_many_keys_that_do_not_match_are_counted() -> None:
    with pytest.raises(WeightsError, match="missing: 0.weight, .*, 2.weight and 15 more") as caught:
        load_state(nn.Sequential(*(nn.Linear(1, 1) for _ in range(10))), {"other": torch.ones(1)}, "w.pth")
    assert "unexpected: other" in str(caught.value)


def test_infinity_of_a_single_number_is_a_bound() -> None:
    module = nn.Conv2d(1, 1, 1)
    module.register_buffer("most", torch.tensor(torch.inf))
    Network(module)
    module.register_buffer("most", torch.tensor(torch.nan))
    with pytest.raises(WeightsError, match="'most' has nan"):
        Network(module)
