"""An evolution keeps its layers and numbers through files; its tables and facts follow from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from deconvviz.analyses.evolution.result import Evolution, EvolutionLayer
from deconvviz.errors import DeconvvizValueError

EPOCHS = (1, 2, 5)


def layer(name: str, units: int = 2, size: int = 7, seed: int = 0, channels: int = 3) -> EvolutionLayer:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(EPOCHS), units)
    pictures = torch.tensor([[0, 1], [0, 2], [1, 2]])[:, :units]
    likeness = torch.tensor([[0.1, 0.5, float("nan")], [0.95, 0.9, float("nan")], [1.0, 1.0, float("nan")]])
    return EvolutionLayer(
        f"features.{name}", name, torch.arange(units) + 10, torch.rand(shape, generator=generator), pictures,
        torch.ones(*shape, 2, dtype=torch.long), torch.ones(*shape, 4, dtype=torch.long),
        torch.randn(*shape, channels, size, size, generator=generator),
        torch.randn(*shape, channels, size, size, generator=generator), likeness,
        torch.tensor([[0.0, 0.4], [0.5, 0.7], [1.0, 1.0]])[:, :units],
    )  # fmt: skip


def make() -> Evolution:
    layers = (layer("1"), layer("2", 1, 9, seed=1))
    policy: dict[str, object] = {"method": "deconvnet", "unreadable": ["bad.jpg"]}
    return Evolution(
        EPOCHS,
        layers,
        ("a.jpg", "b.jpg", "c.jpg"),
        policy=policy,
        model={"name": "zfnet"},
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )


def test_npz_loads_as_the_same_result(tmp_path: Path) -> None:
    saved = make()
    loaded = Evolution.load(saved.save(tmp_path / "a.npz"))
    assert loaded == saved and loaded.layers == saved.layers and loaded.epochs == EPOCHS
    assert loaded.layers[1].pixels.shape == (3, 1, 3, 9, 9)
    assert dataclasses.replace(saved, layers=saved.layers[:1]) != saved
    other = dataclasses.replace(saved.layers[1], units=torch.tensor([11]))
    assert dataclasses.replace(saved, layers=(saved.layers[0], other)) != saved
    with pytest.raises(DeconvvizValueError, match="not a saved evolution layer"):
        EvolutionLayer.load(tmp_path / "a.npz")


def test_eleven_layers_come_back_in_their_order(tmp_path: Path) -> None:
    many = dataclasses.replace(make(), layers=tuple(layer(str(k), seed=k) for k in range(11)))
    assert [x.name for x in Evolution.load(many.save(tmp_path / "a.npz")).layers] == [str(k) for k in range(11)]


def test_similarity_is_the_mean_over_the_units_that_say_something() -> None:
    one = layer("1")
    assert one.similarity().tolist() == pytest.approx([0.3, 0.925, 1.0])
    assert one.similarity("projections").tolist() == pytest.approx([0.2, 0.6, 1.0])
    with pytest.raises(DeconvvizValueError, match="projections"):
        one.similarity("pictures")


def test_facts_name_the_pictures_and_the_jumps() -> None:
    facts = json.loads(json.dumps(make().facts()))
    assert facts["pictures"] == 3 and facts["settled"] == {
        "features": {"1": 2, "2": 2},
        "projections": {"1": 5, "2": 5},
    }
    first, second = facts["layers"][0]["units"]
    assert first["unit"] == 10 and first["pictures"] == ["a.jpg", "a.jpg", "b.jpg"] and first["jumps"] == [5]
    assert second["pictures"] == ["b.jpg", "c.jpg", "c.jpg"] and second["jumps"] == [2]


def test_table_has_a_row_for_each_layer_and_a_column_for_each_epoch() -> None:
    table = make().table()
    assert table.columns == ("layer", "epoch 1", "epoch 2", "epoch 5", "≥ 0.9")
    assert table.rows[0] == ("1", "0.300", "0.925", "1.000", "2")
    assert make().table("projections", 0.55).rows[0][-1] == "2"


def test_an_unknown_kind_of_figure_is_named() -> None:
    with pytest.raises(DeconvvizValueError, match="convergence"):
        make().figure("curve")
