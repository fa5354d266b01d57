"""What units do to the classes, by numbers that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from deconvviz.atlas import build
from deconvviz.atlas.contents import read
from deconvviz.atlas.effects import (
    CLASSES,
    PICTURES,
    UNITS,
    Effects,
    MeanShares,
    asked,
    direct_table,
    from_json,
    ranked,
    to_json,
)
from deconvviz.scanning.store import Store


def test_the_most_first_on_either_side_and_zero_is_nothing() -> None:
    table = np.array([[3.0, 0, -1], [5, 0, -2], [-4, 0, np.nan], [5, 1e-9, 2.00004]])
    found = ranked(table, True)
    assert found.speaks_for == [[(1, 5.0), (3, 5.0), (0, 3.0)], [(3, 1e-9)], [(3, 2.0)]]
    assert found.against == [[(2, -4.0)], [], [(1, -2.0), (0, -1.0)]]
    assert found.drivers == {0: [(0, 3.0)], 1: [(0, 5.0)], 3: [(0, 5.0), (2, 2.0), (1, 1e-9)]}, "nothing known of 2"
    many = ranked(np.arange(1.0, 401).reshape(20, 20), False)
    assert [c for c, _ in many.speaks_for[0]] == list(range(19, 19 - CLASSES, -1))
    assert [u for u, _ in many.drivers[0]] == list(range(19, 19 - UNITS, -1))


def test_means_are_of_the_pictures_of_a_class() -> None:
    means = MeanShares()
    for number, share in ((2, [1.0, -3]), (0, [8.0, 0]), (2, [3.0, 0])):
        means.add(number, np.array(share))
    table = means.table()
    assert table is not None and means.counts == {2: 2, 0: 1}
    assert np.array_equal(table, [[8, 0], [np.nan, np.nan], [2, -1.5]], equal_nan=True)
    assert MeanShares().table() is None


def test_direct_effects_are_weight_times_mean(store: Store, made_up: SimpleNamespace) -> None:
    layer = read(store).layers[1]
    weights = made_up.Source().direct(layer.stored)
    table = direct_table(layer, weights)
    assert np.allclose(table, weights * store.units("2").mean)


def test_what_is_kept_is_what_was_made() -> None:
    layers = {0: ranked(np.array([[0.1, -2], [3, 4]]), True), 4: ranked(np.array([[1.0, 2, 3]]), False)}
    assert from_json(to_json(layers, {7: 2, 0: 1})) == (layers, {0: 1, 7: 2})


def test_pictures_are_asked_from_every_class_alike(store: Store, made_up: SimpleNamespace, tmp_path: Path) -> None:
    contents = read(store)
    assert [p.number for p in asked(contents)] == [p.number for g in contents.groups for p in g.pictures]
    with Store.open(made_up.write_store(tmp_path / "m.db", pictures=900, maps=(96, 256, 5))) as large:
        contents = read(large)
    found = asked(contents)
    counts = [sum(p.group == group.number for p in found) for group in contents.groups]
    assert len(contents.pictures) > 2 * PICTURES >= 2 * len(found) > PICTURES and max(counts) - min(counts) <= 1
    assert len({p.number for p in found}) == len(found)


def test_a_class_is_known_by_its_name_as_folders_write_it() -> None:
    effects = Effects({}, {}, ["fox", "Stop sign", "yin-yang"], 0)
    assert [effects.number(name) for name in ("Fox", "stop_sign", "yin_yang", "fo")] == [0, 1, 2, None]
    assert effects.name(1) == "Stop sign" and effects.name(5) == "class 5"


def test_pages_say_what_a_unit_does(site: Path) -> None:
    unit = (site / "layers" / "2" / "7.html").read_text("utf-8")  # drives class 2 directly
    assert "conv2 feeds the scores directly" in unit and "a &amp; b" in unit.partition("Speaks for")[2]
    other = (site / "layers" / "1" / "0.html").read_text("utf-8")  # speaks against all
    assert "that the network takes for the class" in other and "Speaks for</h3>\n<p" in other
    assert "What it does" not in (site / "layers" / "3" / "1.html").read_text("utf-8"), "logits"
    assert "What it does" not in (site / "layers" / "1" / "3.html").read_text("utf-8"), "dead"
    (fox,) = [p for p in (site / "classes").glob("*.html") if "<h1>fox</h1>" in p.read_text("utf-8")]
    assert "What speaks for it" in fox.read_text("utf-8")


def test_a_rebuild_asks_nothing_and_a_file_cut_short_is_made_again(made_up: SimpleNamespace, tmp_path: Path) -> None:
    path = made_up.write_store(tmp_path / "a.db", pictures=12, maps=(4, 5, 5), top=4)
    first, second, third = (made_up.Source() for _ in range(3))
    build(path, tmp_path / "site", first)
    (kept,) = (tmp_path / "site" / "effects").iterdir()
    whole = kept.read_text("utf-8")
    assert set(json.loads(whole)["layers"]) == {"0", "1"} and len(first.classified) > 5
    build(path, tmp_path / "site", second)
    assert second.classified == [] and kept.read_text("utf-8") == whole
    for cut in (whole[:40], "", "[]"):
        kept.write_text(cut)
        build(path, tmp_path / "site", third)
        assert kept.read_text("utf-8") == whole
    assert third.classified == 3 * first.classified
