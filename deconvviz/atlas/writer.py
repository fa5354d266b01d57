"""The pages of a site, from what the store says and the files of its pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np

from deconvviz.atlas import contents as reading
from deconvviz.atlas import pages, similar
from deconvviz.atlas.contents import AtlasLayer, AtlasPicture, AtlasUnit, Contents, PictureGroup, majority
from deconvviz.atlas.effects import Effects
from deconvviz.atlas.plates import Box, Photo, Plates, Report, Source
from deconvviz.atlas.site import Folder

# Units that a page shows beside another one, and that a layer shows on the overview.
NEIGHBOURS = 8
STRIP = 18

Boxes = Mapping[tuple[int, int], Box]


def write_pages(
    folder: Folder,
    contents: Contents,
    plates: Sequence[Plates],
    photos: Mapping[int, Photo],
    effects: Effects,
    source: Source,
    report: Report,
) -> None:
    """Write every page, the search's index, and the files that all pages use."""
    env = pages.environment()
    measures = pages.Measures()
    env.filters["measures"] = measures
    env.globals.update(contents=contents, similarity=similar.NAME, photos=photos, effects=effects)
    write = _PageWriter(folder, env, report, contents, effects)
    write_assets(folder)
    folder.text("index.js", pages.search_index(contents))
    boxes = {one.layer.stored.id: _boxes(one, source) for one in plates}
    for one in plates:
        write.layer(one, boxes[one.layer.stored.id])
    write.groups(plates)
    write.pictures(plates, boxes)
    write.overview(plates)
    folder.text("assets/measures.css", measures.sheet())


def write_assets(folder: Folder) -> None:
    """Write the style and the scripts that all pages use."""
    for name in ("base.css", "atlas.css", "atlas.js", "icon.svg", "theme.js"):
        folder.bytes(f"assets/{name}", (files("deconvviz.atlas") / "assets" / name).read_bytes())


class _PageWriter:
    """Writes the pages of one site."""

    def __init__(
        self, folder: Folder, env: jinja2.Environment, report: Report, contents: Contents, effects: Effects
    ) -> None:
        self.folder, self.env, self.report, self.contents, self.effects = folder, env, report, contents, effects
        self.pages_of = {effects.number(group.name): group for group in contents.groups if contents.classes}
        self.done = 0
        self.total = 2 + len(contents.layers) + contents.units + len(contents.groups) + len(contents.pictures)

    def page(self, name: str, template: str, here: object, exact: bool = False, **values: Any) -> None:
        """Render a page; links in it start from its own folder."""
        root = "../" * name.count("/")
        text = self.env.get_template(template).render(root=root, here=here, exact=exact, **values)
        self.folder.text(name, text)
        self.done += 1
        self.report("pages", self.done, self.total)

    def overview(self, plates: Sequence[Plates]) -> None:
        """The first page, and the list of classes."""
        rows = [
            {"layer": one.layer, "facts": facts_line(one.layer), "plates": one, "units": _strip(one)} for one in plates
        ]
        self.page("pictures.html", "pictures.html", "pictures", True)
        self.page(
            "index.html", "overview.html", None, rows=rows, what_a_square_shows=what_a_square_shows(self.contents)
        )

    def layer(self, plates: Plates, boxes: Boxes) -> None:
        """A layer and its units; `boxes` are the receptive fields of their places."""
        layer = plates.layer
        self.page(
            f"layers/{layer.number}.html", "layer.html", layer.number, True,
            layer=layer, facts=facts_line(layer), grid=plates.grid, cells=plates.cells,
            position={unit: n for n, unit in enumerate(plates.order)}, kinds=_kinds(layer, self.contents),
        )  # fmt: skip
        keepers: dict[int, set[int]] = {}
        for unit in layer.units:
            for place in unit.places:
                keepers.setdefault(place.picture, set()).add(unit.number)
        for unit in layer.units:
            self.unit(plates, unit, keepers, boxes)

    def unit(self, plates: Plates, unit: AtlasUnit, keepers: Mapping[int, set[int]], boxes: Boxes) -> None:
        """One unit; `keepers` are the units of the layer that keep a picture."""
        units = plates.layer.units
        like = [] if unit.dead else similar.nearest(plates.similarity, unit.number, NEIGHBOURS)
        shared = Counter(n for picture in {p.picture for p in unit.places} for n in keepers[picture] - {unit.number})
        most = sorted(shared.items(), key=lambda item: (-item[1], item[0]))[:NEIGHBOURS]
        bars, silent = reading.histogram_bars(unit.histogram)
        self.page(
            f"layers/{plates.layer.number}/{unit.number}.html", "unit.html", plates.layer.number,
            layer=plates.layer, unit=unit, sheet=plates.sheets.get(unit.number, ""), tile=plates.tile,
            grid=plates.grid, cells=plates.cells, bars=bars, silent=silent,
            columns=int(np.ceil(np.sqrt(max(len(unit.places), 1)))),
            like=[(units[n], how) for n, how in like], shares=[(units[n], how) for n, how in most],
            boxes=[boxes.get((place.row, place.col)) for place in unit.places], votes=self.votes(plates.layer, unit),
        )  # fmt: skip

    def votes(self, layer: AtlasLayer, unit: AtlasUnit) -> dict[str, Any] | None:
        """The classes that a unit speaks for and against, each with its page if there is one; None: for none."""
        found = self.effects.layers.get(layer.stored.id)
        if found is None or unit.dead:
            return None
        sides = [
            [(number, self.effects.name(number), self.pages_of.get(number), value) for number, value in ranked]
            for ranked in (found.speaks_for[unit.number], found.against[unit.number])
        ]
        most = max((abs(value) for side in sides for *_, value in side), default=0.0)
        return {"direct": found.direct, "sides": sides, "most": most} if most else None

    def groups(self, plates: Sequence[Plates]) -> None:
        """A page for each class, or for each group of pictures."""
        for group in self.contents.groups:
            members = []
            for one in plates:
                units = [(unit, count) for layer, unit, count in group.units if layer is one.layer]
                if units:
                    members.append((one.layer, one.grid, one.cells, sorted(units, key=lambda u: (-u[1], u[0].number))))
            self.page(
                f"classes/{group.number}.html", "group.html", "pictures",
                group=group, members=members, drivers=self.drivers(group, plates),
            )  # fmt: skip

    def drivers(
        self, group: PictureGroup, plates: Sequence[Plates]
    ) -> list[tuple[Plates, list[tuple[AtlasUnit, float]]]]:
        """The units of each layer that speak for a class most, if the network knows the class."""
        number = self.effects.number(group.name) if self.contents.classes else None
        found = []
        for one in plates:
            known = self.effects.layers.get(one.layer.stored.id)
            ranked = known.drivers.get(number, []) if known is not None and number is not None else []
            if ranked:
                found.append((one, [(one.layer.units[n], value) for n, value in ranked]))
        return found

    def pictures(self, plates: Sequence[Plates], boxes: Mapping[int, Boxes]) -> None:
        """A page for each picture: the units that it excites most."""
        by_id = {one.layer.stored.id: one for one in plates}
        for group in self.contents.groups:
            for n, picture in enumerate(group.pictures):
                self.page(
                    f"pictures/{picture.number}.html", "picture.html", "pictures",
                    picture=picture, position=n, layers=_fires(picture, by_id, boxes),
                )  # fmt: skip


def _boxes(plates: Plates, source: Source) -> Boxes:
    places = sorted({(p.row, p.col) for unit in plates.layer.units for p in unit.places})
    return dict(zip(places, source.boxes(plates.layer.stored, places), strict=True)) if places else {}


def _kinds(layer: AtlasLayer, contents: Contents) -> dict[str, Any]:
    """What the units of a layer can be narrowed down to: how many are dead, dense or sparse, and of which classes."""
    classes = Counter(group for unit in layer.units if (group := majority(unit, contents)) is not None)
    return {
        "dead": layer.dead, "dense": sum(unit.dense for unit in layer.units),
        "sparse": sum(unit.sparse for unit in layer.units),
        "classes": [(contents.groups[number], count) for number, count in sorted(classes.items())],
    }  # fmt: skip


def _fires(picture: AtlasPicture, by_id: Mapping[int, Plates], boxes: Mapping[int, Boxes]) -> list[dict[str, Any]]:
    """The units of a picture by layer, the strongest rank first; `pair` joins a unit with its box."""
    parts = []
    for number, plates in by_id.items():
        places = [p for p in picture.places if p.layer == number]
        places.sort(key=lambda p: (p.rank, p.unit))
        fires = [
            {
                "place": place,
                "file": plates.sheets[place.unit],
                "box": boxes[number].get((place.row, place.col)),
                "pair": f"{plates.layer.number}-{place.unit}-{place.rank}",
            }
            for place in places
        ]
        if fires:
            parts.append({"layer": plates.layer, "grid": plates.tile, "fires": fires})
    return parts


def _strip(plates: Plates) -> list[AtlasUnit]:
    """Units for the overview: evenly spread over the order by similarity, so that they differ."""
    alive = [n for n in plates.order if not plates.layer.units[n].dead]
    count = min(STRIP, len(alive))
    return [plates.layer.units[alive[(2 * n + 1) * len(alive) // (2 * count)]] for n in range(count)]


_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}


def what_a_square_shows(contents: Contents) -> str:
    """The end of the sentence that explains a square."""
    scanned, top = pages.number(contents.pictures_scanned), contents.top
    what = "picture" if contents.facts["per_picture"] == 1 else "place"
    which = f"the {what}" if top == 1 else f"the {_WORDS.get(top, top)} {what}s"
    among = f", of {scanned}," if what == "picture" else f" in {scanned} pictures"
    verb = "excites" if top == 1 else "excite"
    return f"{which}{among} that {verb} it most, sent back through the network to the pixels that did it."


def facts_line(layer: AtlasLayer) -> str:
    """Units, map, receptive field and dead units of a layer in one line."""
    parts = [f"{len(layer.units)} unit{'' if len(layer.units) == 1 else 's'}"]
    if layer.stored.size:
        parts.append(f"maps of {layer.stored.size[0]} × {layer.stored.size[1]}")
    if layer.stored.field:
        parts.append(f"each place sees {layer.stored.field[0]} × {layer.stored.field[1]} pixels")
    silent = f"{layer.dead} never fire{'s' if layer.dead == 1 else ''}" if layer.dead else "all of them fire"
    return f"{', '.join(parts)}; {silent}"
