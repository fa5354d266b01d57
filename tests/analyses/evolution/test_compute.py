"""Evolution over checkpoints of a small network, against plain loops, numpy and `project` itself."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz import Evolution, EvolutionCheckpoints, Network, evolve, project
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, ImageError, UnknownNameError, WeightsError
from deconvviz.network.checkpoints import note_run
from deconvviz.network.weights import write_weights

LAYERS = ["1", "2", "fc"]
EPOCHS = (1, 3, 9)


def build(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 5, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6 * 25, 4)).eval()


def network(seed: int) -> Network:
    aliases = {"1": "0", "2": "3", "fc": "6"}
    return Network(build(seed), 31, (0.5,) * 3, (0.25,) * 3, aliases=aliases)


def pictures(count: int = 7) -> list[Tensor]:
    return list(torch.randn(count, 3, 31, 31, generator=torch.Generator().manual_seed(3)))


def values(net: Network, layer: str) -> Tensor:
    """What a layer says of all pictures (N, M, h, w), by running its part of the network."""
    x = torch.stack(pictures())
    with torch.no_grad():
        found: Tensor = net.module[: {"1": 2, "2": 5, "fc": 7}[layer]](x)  # type: ignore[index]
    return found if found.dim() == 4 else found[:, :, None, None]


@pytest.fixture(scope="module")
def nets() -> dict[int, Network]:
    """Three checkpoints: the second is half-way from the first to the last in its weights."""
    first, last = network(0), network(1)
    middle = copy.deepcopy(first)
    with torch.no_grad():
        for m, a, b in zip(
            middle.module.parameters(), first.module.parameters(), last.module.parameters(), strict=True
        ):
            m.copy_(0.4 * a + 0.6 * b)
    return dict(zip(EPOCHS, (first, middle, last), strict=True))


@pytest.fixture(scope="module")
def result(nets: dict[int, Network]) -> Evolution:
    return evolve(nets, pictures(), LAYERS, {"1": range(5), "2": [5, 0], "fc": [3]}, batch=3)  # type: ignore[dict-item]


def test_strongest_activations_are_those_of_plain_loops(nets: dict[int, Network], result: Evolution) -> None:
    assert result.epochs == EPOCHS and [x.name for x in result.layers] == LAYERS
    for name, layer in zip(LAYERS, result.layers, strict=True):
        for e, net in enumerate(nets.values()):
            found = values(net, name).numpy()
            for k, unit in enumerate(layer.units.tolist()):
                picture, row, column = np.unravel_index(found[:, unit].argmax(), found[:, unit].shape)
                assert float(layer.activations[e, k]) == pytest.approx(float(found[:, unit].max()), rel=1e-5)
                assert int(layer.pictures[e, k]) == picture and layer.places[e, k].tolist() == [row, column]


def test_projections_and_photographs_are_those_of_project(nets: dict[int, Network], result: Evolution) -> None:
    for name, layer in zip(LAYERS, result.layers, strict=True):
        for e, net in enumerate(nets.values()):
            for k, unit in enumerate(layer.units.tolist()):
                place = (int(layer.places[e, k, 0]), int(layer.places[e, k, 1]))
                image = pictures()[int(layer.pictures[e, k])]
                own = project(net, image, name, [unit], place=place)
                top, left, bottom, right = own.boxes[0].tolist()
                assert layer.boxes[e, k].tolist() == [top, left, bottom, right]
                height, width = layer.pixels.shape[-2:]
                top, left = min(top, 31 - height), min(left, 31 - width)
                whole = torch.zeros_like(own.pixels[0])
                whole[:, top : top + height, left : left + width] = layer.pixels[e, k]
                assert torch.allclose(whole, own.pixels[0], atol=1e-6)  # nothing of it is cut off
                assert layer.photos[e, k].equal(image[:, top : top + height, left : left + width])


def test_features_likeness_is_the_correlation_of_all_values(nets: dict[int, Network], result: Evolution) -> None:
    for name, layer in zip(LAYERS, result.layers, strict=True):
        last = values(nets[9], name).double().numpy()
        for e, net in enumerate(nets.values()):
            own = values(net, name).double().numpy()
            for unit in range(own.shape[1]):
                a, b = own[:, unit].ravel(), last[:, unit].ravel()
                if b.std() == 0:
                    assert np.isnan(float(layer.features[e, unit]))
                    continue
                expected = np.corrcoef(a, b)[0, 1] if a.std() > 0 else 0.0
                assert float(layer.features[e, unit]) == pytest.approx(expected, abs=1e-5)
        assert torch.allclose(layer.similarity(), layer.features.nanmean(1))
        assert float(layer.similarity()[-1]) == pytest.approx(1.0)


def test_projections_likeness_is_the_cosine_at_the_last_ones_place(nets: dict[int, Network], result: Evolution) -> None:
    for name, layer in zip(LAYERS, result.layers, strict=True):
        for k, unit in enumerate(layer.units.tolist()):
            image = pictures()[int(layer.pictures[-1, k])]
            place = (int(layer.places[-1, k, 0]), int(layer.places[-1, k, 1]))
            shown = [project(net, image, name, [unit], place=place).pixels.flatten() for net in nets.values()]
            for e in range(3):
                empty = float(shown[e].norm()) == 0
                expected = 0.0 if empty else float(torch.cosine_similarity(shown[e], shown[-1], dim=0))
                assert float(layer.projections[e, k]) == pytest.approx(expected, abs=1e-5)


def test_batches_do_not_matter_and_jumps_mark_another_picture(nets: dict[int, Network], result: Evolution) -> None:
    again = evolve(nets, torch.stack(pictures()), LAYERS, {"1": range(5), "2": [5, 0], "fc": [3]}, batch=50)  # type: ignore[dict-item]
    for one, two in zip(result.layers, again.layers, strict=True):
        assert one.pictures.equal(two.pictures) and torch.allclose(
            one.features, two.features, equal_nan=True, atol=1e-6
        )
        expected = [[False] * len(one)] + [
            [int(one.pictures[e, k]) != int(one.pictures[e - 1, k]) for k in range(len(one))] for e in (1, 2)
        ]
        assert one.jumps.tolist() == expected


def test_a_unit_with_a_large_mean_costs_no_digits() -> None:
    net = network(0)
    shifted = copy.deepcopy(net)
    with torch.no_grad():
        shifted.module[0].bias += 3000.0  # type: ignore[index, union-attr]
    (layer,) = evolve({1: shifted, 2: net}, pictures(), "0", [0], batch=2).layers
    # The values before the rectifier are the same but for the shift.
    assert layer.features[0].min() > 0.999


def test_units_are_drawn_from_those_that_fire(nets: dict[int, Network]) -> None:
    dead = copy.deepcopy(nets[9])
    with torch.no_grad():
        dead.module[0].bias[:] = torch.tensor([-100.0, 1, -100, 1, 1])  # type: ignore[index, union-attr]
    result = evolve({1: nets[1], 2: dead}, pictures(), "1", count=2)
    assert set(result.layers[0].units.tolist()) <= {1, 3, 4} and len(result.layers[0]) == 2
    assert result.layers[0].features[:, [0, 2]].isnan().all()
    assert evolve({2: dead}, pictures(), "1", count=2, seed=0) == evolve({2: dead}, pictures(), "1", count=2)
    drawn = {tuple(evolve({2: dead}, pictures(), "1", count=2, seed=s).layers[0].units.tolist()) for s in range(8)}
    assert len(drawn) > 1


def test_settled_is_the_first_epoch_that_is_never_left_again(result: Evolution) -> None:
    one = result.layers[0]
    rows = {"a": [0.95, 0.5, 1.0], "b": [0.2, 0.9, 1.0], "c": [0.95, 0.93, 1.0], "d": [0.1, 0.2, 1.0]}
    layers = tuple(
        type(one)(**{**vars(one), "alias": name, "features": torch.tensor(row, dtype=torch.float64)[:, None]})
        for name, row in rows.items()
    )
    made = Evolution(EPOCHS, layers, result.names)
    assert made.settled() == {"a": 9, "b": 3, "c": 1, "d": 9}


# What is given --------------------------------------------------------------------------------------------------------


def test_every_spelling_of_checkpoints_gives_the_same(nets: dict[int, Network], tmp_path: Path) -> None:
    keep = EvolutionCheckpoints(tmp_path / "run", EPOCHS)
    for epoch, net in nets.items():
        keep(net, epoch)
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (4, 40, 36, 3), dtype=np.uint8)
    for k, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    files = sorted((tmp_path / "run").iterdir())
    states = {e: net.module.state_dict() for e, net in nets.items()}
    photos = tmp_path / "photos"
    first = evolve(tmp_path / "run", photos, "2", [1, 2], model=nets[1])
    spellings = [
        evolve(files, sorted(photos.iterdir()), "2", [1, 2], model=nets[1]),
        evolve(dict(zip((9, 3, 1), files[::-1], strict=True)), photos, "2", [1, 2], model=nets[3]),
        evolve(states, [Image.fromarray(p) for p in noise], "2", torch.tensor([1, 2]), model=nets[9]),  # type: ignore[arg-type]
        evolve(nets, photos, "2", [1, 2]),
    ]
    for other in spellings:
        assert other.epochs == first.epochs
        assert other.layers[0].pixels.equal(first.layers[0].pixels)
        assert other.layers == first.layers
    assert first.names == ("0.png", "1.png", "2.png", "3.png")
    assert "epoch9" in first.model["weights"]


def test_a_run_needs_nothing_else(tmp_path: Path) -> None:
    import deconvviz

    run, data = tmp_path / "run", tmp_path / "data"
    run.mkdir()
    for k, folder in enumerate(("a", "b", "BACKGROUND_Google")):
        (data / folder).mkdir(parents=True)
        for n in range(4):
            Image.fromarray(np.full((28, 28, 3), 40 * n + k, dtype=np.uint8)).save(data / folder / f"{n}.png")
    (data / "b" / "bad.png").write_text("no picture")
    for epoch in (1, 2):
        net = deconvviz.load("lenet", "random", seed=epoch, classes=2)
        facts = {"model": "lenet", "options": {"classes": 2}, "labels": ["a", "b"]}
        write_weights(run / f"epoch{epoch}.safetensors", net.module.state_dict(), facts)
    with pytest.raises(DeconvvizValueError, match="give images"):
        evolve(run)
    note_run(run, "lenet", data)
    result = evolve(run, count=2)
    assert [x.name for x in result.layers] == ["conv1", "conv2"] or [x.name for x in result.layers] == ["1", "2"]
    assert len(result.names) == 9 and result.names[0] == "a/0.png" and result.policy["unreadable"] == ["b/bad.png"]
    assert len(evolve(run, layer="1", most=3).names) == 3


def test_networks_that_are_given_stay_as_they_are(nets: dict[int, Network]) -> None:
    before = {e: {k: v.clone() for k, v in net.module.state_dict().items()} for e, net in nets.items()}
    nets[1].module.train()
    evolve(nets, pictures(2), "1", [0])
    evolve({e: n.module.state_dict() for e, n in nets.items()}, pictures(2), "1", [0], model=nets[1])
    assert nets[1].module.training
    nets[1].module.eval()
    for e, net in nets.items():
        assert all(v.equal(before[e][k]) for k, v in net.module.state_dict().items())
        assert all(p.grad is None and not m._forward_hooks for p in net.module.parameters() for m in net.module)  # type: ignore[union-attr]


def test_progress_reaches_its_end(nets: dict[int, Network]) -> None:
    seen: list[tuple[int, int]] = []
    evolve(nets, pictures(5), ["1", "2"], [0], batch=2, progress=lambda done, steps: seen.append((done, steps)))
    assert seen == [(k, 15) for k in range(1, 16)]  # 3 batches and 2 layers, at 3 checkpoints


def test_errors(nets: dict[int, Network], tmp_path: Path) -> None:
    one = pictures(1)
    with pytest.raises(DeconvvizValueError, match="no checkpoint"):
        evolve(tmp_path, one, "1")
    with pytest.raises(DeconvvizValueError, match="no epoch"):
        evolve(["final.safetensors"], one, "1")
    with pytest.raises(DeconvvizValueError, match="twice"):
        evolve(["epoch1.pt", "run1.pt"], one, "1")
    with pytest.raises(DeconvvizTypeError, match="allowed"):
        evolve(nets[1], one, "1")  # type: ignore[arg-type]
    with pytest.raises(DeconvvizTypeError, match="mapping"):
        evolve([nets[1]], one, "1")  # type: ignore[list-item]
    with pytest.raises(DeconvvizTypeError, match="epochs"):
        evolve({"1": nets[1]}, one, "1")  # type: ignore[dict-item]
    with pytest.raises(DeconvvizValueError, match="give model"):
        evolve({1: nets[1].module.state_dict()}, one, "1")
    with pytest.raises(WeightsError, match="does not match"):
        evolve({1: nets[1], 2: nn.Linear(2, 2)}, one, "1")
    with pytest.raises(UnknownNameError, match="'7'"):
        evolve(nets, one, "7")
    with pytest.raises(DeconvvizValueError, match="no numbered"):
        evolve({1: nets[1].module}, one)
    with pytest.raises(DeconvvizValueError, match="unit 5 .* 0 to 4"):
        evolve(nets, one, "1", [5])
    with pytest.raises(DeconvvizValueError, match="layer '3'"):
        evolve(nets, one, "1", {"3": [0]})
    with pytest.raises(DeconvvizTypeError, match="Conv2d"):
        evolve(nets, one, nets[1].module[0])  # type: ignore[index, arg-type]
    with pytest.raises(DeconvvizValueError, match="count"):
        evolve(nets, one, "1", count=0)
    with pytest.raises(DeconvvizValueError, match="device 'gpu'"):
        evolve(nets, one, "1", device="gpu")
    with pytest.raises(UnknownNameError, match="method"):
        evolve(nets, one, "1", method="deconv")
    with pytest.raises(DeconvvizValueError, match="images is empty"):
        evolve(nets, [], "1")
    with pytest.raises(DeconvvizValueError, match="sizes"):
        evolve(nets, [*one, torch.zeros(3, 33, 31)], "1")
    (tmp_path / "bad.jpg").write_text("no picture")
    with pytest.raises(ImageError, match="none of the 1 pictures"):
        evolve(nets, [tmp_path / "bad.jpg"], "1")
