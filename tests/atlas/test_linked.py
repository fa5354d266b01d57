"""Which store a site is of, by what it says itself, and which of its pages are about what."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from deconvviz.atlas import LinkedSite, build, build_comparison
from deconvviz.errors import AtlasError
from deconvviz.scanning.store import Store

SMALL = {"maps": (6, 5, 5), "pictures": 12, "top": 4}


def test_every_unit_and_picture_of_the_store_has_its_page(site: Path, store: Store) -> None:
    linked = LinkedSite(site, store)
    seen = set()
    for number, layer in enumerate(store.layers(), 1):
        for unit in range(layer.maps):
            assert linked.unit(layer, unit) == f"layers/{number}/{unit}.html"
            for place in store.top(layer, unit):
                if place.activation > 0:
                    name, _, mark = str(linked.place(place)).partition("#")
                    assert f'id="{mark}"' in (site / name).read_text()
                    seen.add(name)
        assert linked.unit(layer, layer.maps) is None
    assert seen == {str(path.relative_to(site)) for path in (site / "pictures").glob("*.html")}


@pytest.mark.parametrize("change", [{"seed": 1}, {"classes": False}])
def test_the_same_pictures_have_the_same_pages(
    made_up: SimpleNamespace, tmp_path: Path, change: dict[str, int]
) -> None:
    # Whatever the units say to them, and whatever classes they are of.
    build(made_up.write_store(tmp_path / "a.db", **SMALL), tmp_path / "site", made_up.Source())
    with Store.open(made_up.write_store(tmp_path / "b.db", **SMALL, **change)) as other:
        assert LinkedSite(tmp_path / "site", other).files.read("") is not None


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"weights": "1" * 64}, "an atlas of another network (weights 000"), ({"prefix": "x"}, "of another scan"),
        ({"maps": (6, 4, 5)}, "of another scan"), ({"top": 3}, "of another scan"),
        ({"pictures": 11}, "of another scan"),
    ],
)  # fmt: skip
def test_a_site_of_another_store_is_a_line(
    made_up: SimpleNamespace, tmp_path: Path, change: dict[str, object], line: str
) -> None:
    build(made_up.write_store(tmp_path / "a.db", **SMALL), tmp_path / "site", made_up.Source())
    with (
        Store.open(made_up.write_store(tmp_path / "b.db", **{**SMALL, **change})) as other,
        pytest.raises(AtlasError) as said,
    ):
        LinkedSite(tmp_path / "site", other)
    assert line in str(said.value) and "\n" not in str(said.value)
    assert str(said.value).endswith(f"make one with deconvviz atlas --store {tmp_path / 'b.db'}")


def test_a_scan_that_has_grown_keeps_its_site(made_up: SimpleNamespace, tmp_path: Path) -> None:
    build(made_up.write_store(tmp_path / "a.db", **SMALL), tmp_path / "site", made_up.Source())
    with Store.open(made_up.write_store(tmp_path / "more.db", **{**SMALL, "pictures": 15})) as grown:
        layer = grown.layers()[0]
        assert LinkedSite(tmp_path / "site", grown).unit(layer, 2) == "layers/1/2.html"
        build(grown, tmp_path / "site", made_up.Source())
    with Store.open(tmp_path / "a.db") as before, pytest.raises(AtlasError, match="of another scan"):
        LinkedSite(tmp_path / "site", before)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "is not what an atlas writes; make one"), ("{", "is not what an atlas writes; make one"),
        ('{"model": "net <b>&", "weights": "%s"}' % ("0" * 64), "an earlier version made it; make one"),
        ('{"model": "net <b>&", "weights": "%s", "scan": "", "pictures": -1}' % ("0" * 64), "another scan; make one"),
        ('{"model": "net <b>&", "weights": "%s", "scan": 3, "pictures": "12"}' % ("0" * 64), "another scan; make one"),
    ],
)  # fmt: skip
def test_a_site_that_does_not_say_it_is_a_line(made_up: SimpleNamespace, tmp_path: Path, text: str, line: str) -> None:
    build(made_up.write_store(tmp_path / "a.db", **SMALL), tmp_path / "site", made_up.Source())
    assert json.loads((tmp_path / "site" / "atlas.json").read_text())["pictures"] == 12
    (tmp_path / "site" / "atlas.json").write_text(text)
    with Store.open(tmp_path / "a.db") as store, pytest.raises(AtlasError, match=line):
        LinkedSite(tmp_path / "site", store)


def test_a_comparison_is_of_no_store_but_its_parts_are(made_up: SimpleNamespace, tmp_path: Path) -> None:
    paths = [made_up.write_store(tmp_path / f"{seed}.db", **SMALL, seed=seed) for seed in range(2)]
    build_comparison(*paths, tmp_path / "both", (made_up.Source(), made_up.Source()))
    with Store.open(paths[0]) as store:
        with pytest.raises(AtlasError, match="another network"):
            LinkedSite(tmp_path / "both", store)
        assert LinkedSite(tmp_path / "both" / "first", store).unit(store.layers()[0], 0) == "layers/1/0.html"


def test_what_is_no_site_is_a_line(store: Store, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="holds no atlas"):
        LinkedSite(tmp_path, store)
