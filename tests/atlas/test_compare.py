"""Two atlases side by side: pairs against plain sets, partners, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deconvviz.atlas import build, build_comparison
from deconvviz.atlas.compare import Comparison, _names, compared
from deconvviz.atlas.contents import read
from deconvviz.atlas.plates import PlateMaker, Plates
from deconvviz.atlas.site import Folder
from deconvviz.atlas.unfinished import Unfinished
from deconvviz.errors import AtlasError
from deconvviz.scanning.store import Store

SMALL = {"pictures": 12, "maps": (4, 5, 5), "top": 4}


def both(made_up: SimpleNamespace, place: Path, **second: object) -> Comparison:
    found = []
    for name, options in (("a", {}), ("b", {"weights": "1" * 64, "seed": 3, **second})):
        with Store.open(made_up.write_store(place / f"{name}.db", **{**SMALL, **options})) as store:
            contents = read(store)
        maker = PlateMaker(Folder(place / name), _unfinished(place / name), contents, made_up.Source(), lambda *_: None)
        plates: list[Plates] = [maker.plates(layer) for layer in contents.layers]
        found.append((contents, plates))
    (first, one), (other, two) = found
    return compared(first, other, (one, two))


def _unfinished(folder: Path) -> Unfinished:
    folder.mkdir()
    return Unfinished(folder)


def test_pictures_in_common_are_those_of_both_sets(made_up: SimpleNamespace, tmp_path: Path) -> None:
    found = both(made_up, tmp_path)
    assert found.common > 5 and [layer.name for layer in found.layers] == ["conv1", "conv2", "head"]
    for layer in found.layers:
        paths = [
            [{contents.pictures[p.picture].stored.path for p in unit.places} for unit in plates.layer.units]
            for contents, plates in ((found.first, layer.first), (found.second, layer.second))
        ]
        for n, pair in enumerate(layer.pairs):
            assert pair.unit.number == pair.same.unit.number == n
            assert pair.same.shared == len(paths[0][n] & paths[1][n])
            assert pair.same.most == min(len(paths[0][n]), len(paths[1][n]))
            if pair.unit.dead:
                assert pair.partner is None and pair.alike in (0, 1)
                continue
            assert pair.partner is not None and not pair.partner.unit.dead
            most = max(len(paths[0][n] & other) for other in paths[1])
            assert pair.partner.shared == most == len(paths[0][n] & paths[1][pair.partner.unit.number])
            same_share = [m for m, other in enumerate(paths[1]) if len(paths[0][n] & other) == most and other]
            looks = layer.first.descriptors[n] @ layer.second.descriptors[same_share].T
            assert np.isclose(pair.partner.looks, looks.max(), atol=1e-5)
            assert pair.moved == (pair.partner.unit.number != n)
            expected = pair.same.shared / max(pair.same.most, 1) + 0.01 * pair.same.looks
            assert pair.same.unit.dead or np.isclose(pair.alike, expected)
        alive = [p for p in layer.pairs if not p.unit.dead and not p.same.unit.dead]
        assert np.isclose(layer.shared, np.mean([p.same.shared / p.same.most for p in alive]))


def test_a_network_is_like_itself(made_up: SimpleNamespace, tmp_path: Path) -> None:
    found = both(made_up, tmp_path, seed=0)
    for layer in found.layers:
        assert layer.moved == 0 and layer.shared == 1 and layer.looks == pytest.approx(1, abs=1e-5)
        assert {pair.alike for pair in layer.pairs if pair.unit.dead} <= {1.0}
    assert found.names == ("weights 00000000", "weights 11111111") and found.model == "net <b>&, twice"


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (("zfnet", "bundled: by us"), ("zfnet", "file: runs/best.safetensors"), ("bundled", "runs/best.safetensors")),
        (("zfnet", "random: seed 0"), ("zfnet", "random: seed 1"), ("weights aaaaaaaa", "weights bbbbbbbb")),
        (("vgg16", "imagenet: x"), ("zfnet", "imagenet: x"), ("vgg16", "zfnet")),
    ],
)
def test_names_tell_two_networks_apart(first: tuple[str, str], second: tuple[str, str], names: tuple[str, str]) -> None:
    known = [
        SimpleNamespace(facts={"model": {"name": name, "weights": weights, "sha256": letter * 64}})
        for (name, weights), letter in ((first, "a"), (second, "b"))
    ]
    assert _names(*known) == names  # type: ignore[arg-type]


def test_other_pictures_are_compared_by_looks(made_up: SimpleNamespace, tmp_path: Path) -> None:
    found = both(made_up, tmp_path, prefix="elsewhere/")
    assert found.common == 0 and "looks" in found.measure
    for layer in found.layers:
        for pair in layer.pairs:
            if not pair.unit.dead and not pair.same.unit.dead:
                assert pair.alike == pair.same.looks and pair.same.shared == 0


def test_layers_of_another_size_are_left_out_and_none_at_all_is_an_error(
    made_up: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "some").mkdir()
    assert [x.name for x in both(made_up, tmp_path / "some", maps=(4, 6, 5)).layers] == ["conv1", "head"]
    (tmp_path / "none").mkdir()
    with pytest.raises(AtlasError, match=r"no layer of one name.*conv1 \(4\), conv2 \(5\).*conv1 \(3\), conv2 \(6\)"):
        both(made_up, tmp_path / "none", maps=(3, 6, 4))


def test_a_comparison_holds_both_atlases_and_goes_on(made_up: SimpleNamespace, tmp_path: Path) -> None:
    first = made_up.write_store(tmp_path / "a.db", **SMALL)
    second = made_up.write_store(tmp_path / "b.db", **{**SMALL, "weights": "1" * 64, "seed": 3})
    with pytest.raises(KeyboardInterrupt):
        build_comparison(first, second, tmp_path / "site", (made_up.Source(), made_up.Source(fail_after=7)))
    sources = (made_up.Source(), made_up.Source())
    told: list[str] = []
    site = build_comparison(first, second, tmp_path / "site", sources, report=lambda what, *_: told.append(what))
    assert sources[0].asked == [] and sources[1].asked != [] and told[-1] == "comparison"
    build(first, tmp_path / "alone", made_up.Source())
    alone = {p.relative_to(tmp_path / "alone"): p.read_bytes() for p in (tmp_path / "alone").rglob("*") if p.is_file()}
    for path, data in alone.items():
        assert (tmp_path / "site" / "first" / path).read_bytes() == data
    files = [p for p in (tmp_path / "site").rglob("*") if p.is_file()]
    assert site.files == len(files) and site.bytes == sum(p.stat().st_size for p in files) and site.units == 28
    before = {p: p.stat().st_mtime_ns for p in files}
    assert build_comparison(first, second, tmp_path / "site", (made_up.Source(), made_up.Source())) == site
    assert {p: p.stat().st_mtime_ns for p in files} == before
    assert json.loads((tmp_path / "site" / "atlas.json").read_text())["weights"] == f"{'0' * 64} against {'1' * 64}"
    with pytest.raises(AtlasError, match="another network"):
        build(first, tmp_path / "site", made_up.Source())
    with pytest.raises(AtlasError, match="another network"):
        build_comparison(second, first, tmp_path / "site", (made_up.Source(), made_up.Source()))
