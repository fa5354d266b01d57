"""A scan against plain loops: strongest places, statistics, ties, what is read and what is refused."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import deconvviz
from deconvviz import Network, StoreError
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, ImageError, UnknownNameError
from deconvviz.scanning.rows import BINS
from deconvviz.scanning.run import uninterrupted
from deconvviz.scanning.store import Store

Content = Callable[[Path], dict[str, list[tuple[object, ...]]]]
Write = Callable[..., list[Path]]


def values(net: Network, path: Path) -> dict[str, Tensor]:
    """The two layers of one picture, computed step by step."""
    m = net.module
    first = torch.relu(m.conv1(net.preprocess(path)))
    return {"conv1": first[0], "conv2": torch.relu(m.conv2(m.pool1(first)))[0]}


@pytest.mark.parametrize(("batch", "workers", "per_picture"), [(4, 0, 1), (5, 2, 3), (32, 0, 30)])
@torch.no_grad()
def test_against_plain_loops(
    net: Network, folder: Path, tmp_path: Path, batch: int, workers: int, per_picture: int
) -> None:
    store = deconvviz.scan(
        net, folder, ["1", "2"], top=5, store=tmp_path / "s.db", batch=batch, workers=workers, per_picture=per_picture
    )
    pictures = list(store.pictures())
    assert [p.path for p in pictures] == sorted(f"{('cat', 'dog')[n % 2]}/{n:03}.png" for n in range(11))
    assert [(p.path, p.label) for p in pictures if p.error] == [("cat/004.png", "cat")]
    good = {p.id: values(net, folder / str(p.path)) for p in pictures if not p.error}
    for layer in store.layers():
        maps = torch.stack([v[layer.title] for v in good.values()])
        units = store.units(layer)
        assert units.count == 10
        assert np.allclose(units.mean, maps.mean((0, 2, 3)), atol=1e-6)
        assert np.allclose(units.maximum, maps.amax((0, 2, 3)), atol=1e-5)
        assert (units.fires == (maps.amax((2, 3)) > 0).sum(0).numpy()).all()
        assert units.histogram.shape == (layer.maps, BINS) and (units.histogram.sum(1) == 10).all()
        for unit in range(layer.maps):
            rows = []
            for picture, v in good.items():
                one = v[layer.title][unit]
                places = [(-float(one[r, c]), picture, r, c) for r in range(one.shape[0]) for c in range(one.shape[1])]
                rows += sorted(places)[:per_picture]
            expected = sorted(rows)[:5]
            found = [(-p.activation, p.picture, p.row, p.col) for p in store.top(layer, unit)]
            assert [f[0] for f in found] == pytest.approx([e[0] for e in expected], abs=1e-5)
            if not units.dead[unit]:
                assert [f[1:] for f in found] == [e[1:] for e in expected]
    assert store.units("2").dead[1] and not store.units("2").dead.all()


def test_the_store_knows_what_it_is_of(net: Network, folder: Path, tmp_path: Path) -> None:
    with deconvviz.scan(net, folder, ["2", "conv1"], store=tmp_path / "s.db") as store:
        facts = store.facts
        assert facts["model"]["name"] == "Small" and facts["model"]["sha256"] == net.weights_hash()
        assert facts["preprocessing"]["mean"] == [0.5] * 3 and facts["top"] == 9 and facts["done"] == 11
        first, second = store.layers()
        assert (first.title, first.operator, first.maps, first.size) == ("conv1", "Conv2d", 4, (7, 7))
        # Kernel 5 and stride 2; pooled by 2 and a kernel of 3: 5 + 2 + 2 * 4 pixels at a stride of 4.
        assert (first.field, first.stride) == ((5, 5), (2, 2)) and (second.field, second.stride) == ((15, 15), (4, 4))
        assert store.folder == folder and store.complete
        (run,) = store.runs()
        assert run.pictures == 11 and run.ended and run.machine["deconvviz"] == deconvviz.__version__


def test_no_place_of_this_machine_outside_runs(net: Network, folder: Path, tmp_path: Path, content: Content) -> None:
    deconvviz.scan(net, folder, "1", store=tmp_path / "s.db").close()
    assert str(tmp_path) not in repr(content(tmp_path / "s.db"))


def test_ties_go_to_the_first_picture_then_raster_order(net: Network, tmp_path: Path) -> None:
    for n in range(4):
        path = tmp_path / "flat" / f"{n}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (200, 30, 90)).save(path)
    with deconvviz.scan(net, tmp_path / "flat", "1", top=3, store=tmp_path / "a.db", batch=2) as store:
        assert store.units(0).maximum.max() > 0
        for unit in range(4):
            first = store.top(0, unit)
            assert [p.picture for p in first] == [0, 1, 2]
            assert len({(p.row, p.col, p.activation) for p in first}) == 1
    with deconvviz.scan(net, tmp_path / "flat", "1", top=9, per_picture=9, store=tmp_path / "b.db") as store:
        unit = int(np.argmax(store.units(0).maximum))
        places = [(-p.activation, p.picture, p.row, p.col) for p in store.top(0, unit)]
        assert places == sorted(places) and len({p[0] for p in places}) < 9


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_workers_change_nothing(
    net: Network, folder: Path, tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch, content: Content
) -> None:
    deconvviz.scan(net, folder, ["1", "2"], store=tmp_path / "a.db", batch=3, workers=0).close()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    seen = []
    deconvviz.scan(
        net, folder, ["1", "2"], store=tmp_path / "b.db", batch=3, workers=threads - 1, save_every=0,
        report=lambda done, total: seen.append((done, total)),
    ).close()  # fmt: skip
    assert content(tmp_path / "a.db") == content(tmp_path / "b.db")
    assert seen == [(3, 11), (6, 11), (9, 11), (11, 11)]


def test_new_pictures_take_the_next_numbers(
    net: Network, folder: Path, tmp_path: Path, content: Content, write_pictures: Write
) -> None:
    path = tmp_path / "s.db"
    deconvviz.scan(net, folder, ["1", "2"], store=path, batch=4).close()
    before = content(path)
    deconvviz.scan(net, folder, ["1", "2"], store=path, batch=4).close()
    assert content(path) == before, "nothing to do changes nothing"
    write_pictures(folder, 6, start=90)
    deconvviz.scan(net, folder, ["1", "2"], store=path).close()
    with Store.open(path) as store:
        names = [p.path for p in store.pictures()]
        assert names[:11] == sorted(names[:11]) and names[11] == "cat/090.png" and len(names) == 17
        assert store.facts["batch"] == 4 and store.units(0).count == 16
    # As one scan of all, when the numbers are the same.
    paths = [folder / str(name) for name in names]
    deconvviz.scan(net, paths, ["1", "2"], store=tmp_path / "list.db", batch=4).close()
    one, two = content(path), content(tmp_path / "list.db")
    assert one["units"] == two["units"] and one["top"] == two["top"]


def test_a_folder_may_move(net: Network, folder: Path, tmp_path: Path, content: Content) -> None:
    deconvviz.scan(net, folder, "1", store=tmp_path / "s.db").close()
    before = content(tmp_path / "s.db")
    shutil.move(folder, tmp_path / "elsewhere")
    with deconvviz.scan(net, tmp_path / "elsewhere", "1", store=tmp_path / "s.db") as store:
        assert store.folder == tmp_path / "elsewhere"
    assert content(tmp_path / "s.db") == before


def test_a_picture_that_is_gone_is_an_error(net: Network, folder: Path, tmp_path: Path) -> None:
    deconvviz.scan(net, folder, "1", store=tmp_path / "s.db").close()
    (folder / "cat" / "004.png").unlink()  # it could not be read anyway
    deconvviz.scan(net, folder, "1", store=tmp_path / "s.db").close()
    (folder / "dog" / "001.png").unlink()
    with pytest.raises(StoreError, match=r"1 of the 11 pictures .* \(the first: dog/001.png"):
        deconvviz.scan(net, folder, "1", store=tmp_path / "s.db")


def test_another_scan_is_an_error(net: Network, folder: Path, tmp_path: Path, content: Content) -> None:
    path = tmp_path / "s.db"
    deconvviz.scan(net, folder, ["1", "2"], store=path, batch=4).close()
    before = content(path)
    with pytest.raises(StoreError, match="made with top 9, not 3"):
        deconvviz.scan(net, folder, ["1", "2"], top=3, store=path)
    with pytest.raises(StoreError, match="places per picture 1, not 2"):
        deconvviz.scan(net, folder, ["1", "2"], store=path, per_picture=2)
    with pytest.raises(StoreError, match="batch 4, not 8"):
        deconvviz.scan(net, folder, ["1", "2"], store=path, batch=8)
    with pytest.raises(StoreError, match="layers conv1, conv2, not conv2"):
        deconvviz.scan(net, folder, "2", store=path)
    with pytest.raises(StoreError, match="files"):
        deconvviz.scan(net, TensorDataset(torch.zeros(11, 3, 16, 16)), ["1", "2"], store=path)
    card = net.card
    other = Network(net.module, 16, (0.4,) * 3, card.std, aliases=card.aliases)
    with pytest.raises(StoreError, match="preprocessing"):
        deconvviz.scan(other, folder, ["1", "2"], store=path)
    net.module.conv1.bias.data[0] += 1  # leaves no sign on the parameter
    with pytest.raises(StoreError, match="made with the weights [0-9a-f]{16}, not [0-9a-f]{16}; use another store"):
        deconvviz.scan(net, folder, ["1", "2"], store=path)
    net.card = deconvviz.Card(**{**vars(card), "name": "Small, but with another head"})
    with pytest.raises(StoreError, match="model Small, not Small, but with another head; use another store"):
        deconvviz.scan(net, folder, ["1", "2"], store=path)
    assert content(path) == before


class Photos(Dataset[tuple[Image.Image, int]]):
    """Pictures in memory with class numbers."""

    classes = ("cat", "dog")

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, n: int) -> tuple[Image.Image, int]:
        return Image.open(self.paths[n]), n % 2


def test_data_sets(net: Network, tmp_path: Path, content: Content, write_pictures: Write) -> None:
    paths = write_pictures(tmp_path / "photos", 7)
    paths[2].write_text("broken")
    deconvviz.scan(net, paths, ["1", "2"], store=tmp_path / "list.db").close()
    with deconvviz.scan(net, Photos(paths), ["1", "2"], store=tmp_path / "pil.db") as store:
        assert [p.label for p in store.pictures()] == ["cat", "dog", None, "dog", "cat", "dog", "cat"]
        assert store.picture(0).width == 24 and store.picture(0).path is None and store.folder is None
        assert [p.id for p in store.pictures("unreadable")] == [2]
    data = TensorDataset(torch.cat([net.preprocess(p) for p in paths if p != paths[2]]), torch.arange(6))
    with deconvviz.scan(net.module, data, ["conv1", "conv2"], store=tmp_path / "tensor.db") as store:
        assert [p.label for p in store.pictures()] == list("012345")
    a, b = content(tmp_path / "list.db"), content(tmp_path / "pil.db")
    assert a["units"] == b["units"] and a["top"] == b["top"]
    with deconvviz.scan(net.module, torch.utils.data.Subset(data, [1, 2]), "relu1", store=tmp_path / "x.db") as store:
        assert store.layers()[0].alias is None and store.units("relu1").count == 2


def test_a_layer_of_numbers(net: Network, folder: Path, tmp_path: Path) -> None:
    with deconvviz.scan(net, folder, ["fc"], store=tmp_path / "s.db", batch=4) as store:
        (layer,) = store.layers()
        assert layer.size is None and layer.maps == 3
        with torch.no_grad():
            logits = {
                p.id: net.module(net.preprocess(folder / str(p.path)))[0] for p in store.pictures() if not p.error
            }
        for unit in range(3):
            best = sorted((-float(v[unit]), n) for n, v in logits.items())[:9]
            found = store.top("fc", unit)
            assert [p.picture for p in found] == [n for _, n in best] and {(p.row, p.col) for p in found} == {(0, 0)}
            assert [p.activation for p in found] == pytest.approx([-a for a, _ in best], abs=1e-5)


def test_activations_that_are_no_numbers(net: Network, tmp_path: Path) -> None:
    x = torch.randn(6, 3, 16, 16)
    good = [0, 2, 4, 5]
    deconvviz.scan(net.module, TensorDataset(x[good]), ["conv1", "conv2"], top=2, store=tmp_path / "a.db", batch=6)
    x[1, 0, 8, 8], x[3, 0, 8, 8] = torch.inf, torch.nan
    with deconvviz.scan(net.module, TensorDataset(x), ["conv1"], store=tmp_path / "c.db") as store:
        assert "not finite, the first nan at (0, 0, 8, 8)" in str(store.picture(3).error)
    anything = Network(net.module, allow_nonfinite=True)
    with deconvviz.scan(
        anything, TensorDataset(x), ["conv1", "conv2"], top=2, store=tmp_path / "b.db", batch=6
    ) as store:
        assert [p.error for p in store.pictures()] == [
            None, "its activations are not finite", None, "its activations are not finite", None, None,
        ]  # fmt: skip
        with Store.open(tmp_path / "a.db") as other:
            for layer in (0, 1):
                one, two = other.units(layer), store.units(layer)
                assert (one.histogram == two.histogram).all() and (one.mean == two.mean).all()
                renumbered = [[good[p.picture] for p in places] for places in other.tops(layer)]
                assert renumbered == [[p.picture for p in places] for places in store.tops(layer)]


def test_pictures_of_other_shapes_are_listed(net: Network, tmp_path: Path) -> None:
    data = [(torch.randn(3, 16, 16), "x"), (torch.randn(3, 20, 16), "y")]
    with deconvviz.scan(net, Listed(data), "1", store=tmp_path / "s.db") as store:
        assert store.picture(1).error == "its input has shape (3, 20, 16), that of the others (3, 16, 16)"
        assert store.units(0).count == 1 and store.picture(1).label == "y"


class Listed(Dataset[object]):
    """Any items."""

    def __init__(self, items: list[object]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, n: int) -> object:
        if isinstance(self.items[n], Exception):
            raise self.items[n]
        return self.items[n]


class Endless(IterableDataset[object]):
    """No length."""

    def __iter__(self) -> Iterator[object]:
        return iter(())


def test_wrong_arguments(net: Network, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    for name in ("top", "per_picture", "batch"):
        with pytest.raises(DeconvvizValueError, match=f"{name} is 0"):
            deconvviz.scan(net, folder, "1", store=path, **{name: 0})
    with pytest.raises(DeconvvizValueError, match="workers is -1"):
        deconvviz.scan(net, folder, "1", store=path, workers=-1)
    with pytest.raises(DeconvvizTypeError, match="model is a str"):
        deconvviz.scan("zfnet", folder, "1", store=path)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="did you mean 'conv2'"):
        deconvviz.scan(net, folder, "conv3", store=path)
    with pytest.raises(DeconvvizTypeError, match="layers is"):
        deconvviz.scan(net, folder, [], store=path)
    with pytest.raises(ImageError, match="no such folder"):
        deconvviz.scan(net, tmp_path / "nowhere", "1", store=path)
    with pytest.raises(ImageError, match="empty list"):
        deconvviz.scan(net, [], "1", store=path)
    with pytest.raises(DeconvvizTypeError, match="images holds a int"):
        deconvviz.scan(net, [1], "1", store=path)
    with pytest.raises(DeconvvizTypeError, match="Endless"):
        deconvviz.scan(net, Endless(), "1", store=path)
    with pytest.raises(DeconvvizTypeError, match="item 0 of the data set is a str"):
        deconvviz.scan(net, Listed(["x"]), "1", store=path)
    with pytest.raises(DeconvvizValueError, match="wrap the module in Network"):
        deconvviz.scan(net.module, folder, "conv1", store=path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_text("no")
    with pytest.raises(ImageError, match="none of the 1 pictures can be read"):
        deconvviz.scan(net, tmp_path / "bad", "1", store=path)
    with pytest.raises(StoreError, match="does not exist"):
        deconvviz.scan(net, folder, "1", store=tmp_path / "nowhere" / "s.db")
    assert not path.exists(), "nothing is written for wrong arguments"


def test_an_error_of_a_data_set_is_its_own(net: Network, tmp_path: Path) -> None:
    good = torch.randn(3, 16, 16)
    data = Listed([good, good, good, good, OSError("disk"), KeyError("bug")])
    with pytest.raises(KeyError, match="bug"):
        deconvviz.scan(net, data, "1", store=tmp_path / "s.db", batch=3)
    with Store.open(tmp_path / "s.db") as store:
        assert store.done == 3, "what was done before is kept"
    data.items[5] = good
    with deconvviz.scan(net, data, "1", store=tmp_path / "s.db") as store:
        assert [p.error for p in store.pictures("unreadable")] == ["disk"] and store.units(0).count == 5


def test_names_that_are_not_text(net: Network, tmp_path: Path, write_pictures: Write) -> None:
    (picture,) = write_pictures(tmp_path / "photos", 1)
    hostile = os.fsencode(picture.parent) + b"/<b>\xff&'\".png"
    shutil.move(os.fsencode(picture), hostile)
    with deconvviz.scan(net, tmp_path / "photos", "1", store=tmp_path / "s.db") as store:
        name = store.picture(0).path
        assert name is not None and (tmp_path / "photos" / name).is_file() and store.units(0).count == 1
    deconvviz.scan(net, tmp_path / "photos", "1", store=tmp_path / "s.db").close()


def test_the_model_is_left_alone(net: Network, folder: Path, tmp_path: Path) -> None:
    module = net.module.train()
    threads = torch.get_num_threads()
    calls: list[int] = []
    module.conv1.register_forward_hook(lambda *_: calls.append(1))
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]
    state = {k: v.clone() for k, v in module.state_dict().items()}
    deconvviz.scan(net, folder, ["1", "2"], store=tmp_path / "s.db", batch=4).close()
    with pytest.raises(ZeroDivisionError):
        deconvviz.scan(net, folder, ["1", "2"], store=tmp_path / "t.db", batch=4, report=lambda *_: 1 // 0)
    assert all(m.training for m in module.modules()) and calls
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert torch.get_num_threads() == threads


class Uncopied(nn.Module):
    """Cannot be copied, as a module that holds a lock or a file cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.stream = open(os.devnull, "rb")  # noqa: SIM115

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_a_model_that_cannot_be_copied(tmp_path: Path, content: Content) -> None:
    torch.manual_seed(0)
    module = Uncopied().train()
    plain = nn.Sequential()
    plain.add_module("conv", module.conv)
    data = TensorDataset(torch.randn(9, 3, 8, 8))
    deconvviz.scan(module, data, "conv", store=tmp_path / "a.db", batch=2).close()
    deconvviz.scan(plain, data, "conv", store=tmp_path / "b.db", batch=2).close()
    module.stream.close()
    assert module.training and not module.conv._forward_hooks
    assert content(tmp_path / "a.db")["top"] == content(tmp_path / "b.db")["top"]


def test_an_interrupt_waits_until_a_tally_is_added_up() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append(True)
    assert done and signal.getsignal(signal.SIGINT) is before
