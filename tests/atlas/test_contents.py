"""What is read from the store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from deconvviz.atlas.contents import GROUP, histogram_bars, printable, read
from deconvviz.scanning.rows import BINS, EDGES
from deconvviz.scanning.store import Store


def test_layers_units_and_places_are_the_stores(store: Store, made_up: SimpleNamespace) -> None:
    contents = read(store)
    assert [layer.name for layer in contents.layers] == ["conv1", "conv2", "head"]
    assert [layer.aliases for layer in contents.layers] == [("1", "conv1"), ("2", "conv2"), ()]
    assert contents.units == 87 and contents.top == 9 and contents.pictures_scanned == 39
    for layer in contents.layers:
        statistics = store.units(layer.stored)
        for unit in layer.units:
            assert unit.dead == ((layer.stored.id, unit.number) in made_up.dead) == (not unit.places)
            assert (unit.mean, unit.maximum) == (statistics.mean[unit.number], statistics.maximum[unit.number])
            assert unit.places == (() if unit.dead else store.top(layer.stored, unit.number))
            assert sum(n for _, n in unit.classes) == len(unit.places)
        assert layer.dead == sum(unit.dead for unit in layer.units)
    assert len({unit.key for layer in contents.layers for unit in layer.units}) == 87


def test_units_of_the_last_layer_stand_for_classes_of_the_network(store: Store) -> None:
    labels = [[unit.label for unit in layer.units] for layer in read(store).layers]
    assert set(labels[0]) == {None} and labels[2][0] == "fox" and labels[2][3] == "</script>"


def test_pictures_know_their_class_and_their_units(store: Store) -> None:
    contents = read(store)
    assert contents.classes and [group.name for group in contents.groups] == sorted(g.name for g in contents.groups)
    assert [p for group in contents.groups for p in group.pictures if p.group != group.number] == []
    for picture in contents.pictures.values():
        assert picture.places == tuple(p for p in store.units_of(picture.number) if p.activation > 0) != ()
        assert picture.name.startswith(contents.groups[picture.group].name)
    for group in contents.groups:
        for layer, unit, count in group.units:
            own = [p for p in unit.places if contents.pictures[p.picture].group == group.number]
            assert len(own) == count > len(unit.places) / 2 and layer.units[unit.number] is unit


def test_without_classes_pictures_are_in_groups_in_a_row(made_up: SimpleNamespace, tmp_path: Path) -> None:
    with Store.open(made_up.write_store(tmp_path / "a.db", pictures=500, classes=False)) as store:
        contents = read(store)
    assert not contents.classes and not any(group.units for group in contents.groups)
    sizes = [len(group.pictures) for group in contents.groups]
    assert set(sizes[:-1]) == {GROUP} and sum(sizes) == len(contents.pictures) > GROUP
    assert contents.groups[0].name == f"Pictures 1 to {GROUP}"


def test_a_key_changes_with_the_weights_and_the_places(made_up: SimpleNamespace, tmp_path: Path) -> None:
    keys = []
    for n, options in enumerate(({}, {"weights": "1" * 64}, {"pictures": 41})):
        with Store.open(made_up.write_store(tmp_path / f"{n}.db", **options)) as store:
            keys.append([unit.key for layer in read(store).layers for unit in layer.units if unit.places])
    assert not set(keys[0]) & set(keys[1]) and not set(keys[0]) & set(keys[2])


def test_names_are_printable_text() -> None:
    assert printable("a\udcff\u202eb\n\x00") == "a?�b��"
    assert printable("写真 🦊 é") == "写真 🦊 é"


def test_bars_run_from_the_first_to_the_last_bin_that_is_not_empty() -> None:
    histogram = [0] * BINS
    histogram[0], histogram[41], histogram[43] = 7, 2, 5
    bars, silent = histogram_bars(histogram)
    assert silent == 7 and [n for _, _, n in bars] == [2, 0, 5]
    # Bin i holds maxima from EDGES[i - 2] up to EDGES[i - 1].
    assert bars[0][:2] == (EDGES[39], EDGES[40]) and bars[-1][:2] == (EDGES[41], EDGES[42])
    assert histogram_bars([3] + [0] * (BINS - 1)) == ([], 3)
