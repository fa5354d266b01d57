"""What pages are made from: which pictures are chosen, and what tells sources apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

from deconvviz import Network, load
from deconvviz.data.likeness import hashes_of
from deconvviz.data.listing import listing
from deconvviz.errors import DeconvvizValueError
from deconvviz.network.seen import Seen
from deconvviz.paper.layers import numbered, pair
from deconvviz.paper.sources import Sources

from .conftest import COLOURS, colours


def test_untouched_pictures_had_no_part_in_the_training(folder: Path) -> None:
    found = listing(folder)
    free = Sources(colours, data=folder)
    assert free.net.seen is None and "not known" in free.standing
    before = free.untouched
    assert {label for label, _ in before} == set(COLOURS)
    assert all(path.parent.name == label for label, path in before)

    def trained() -> Network:
        net = colours()
        # On the first of each category, as it is or as a mirror image.
        firsts = [ImageOps.mirror(Image.open(path)) for path in Sources(colours, data=folder).firsts.values()]
        net.seen = Seen(hashes_of(firsts), hashes_of([]))
        return net

    after = Sources(trained, data=folder)
    assert "no part" in after.standing and not set(after.firsts.values()) & set(free.firsts.values())
    assert len(found) > len(after.untouched) > 0


def test_examples_are_untouched_and_right(sources: Sources, folder: Path) -> None:
    found = sources.examples(3)
    assert [e.label for e in found] == list(COLOURS) and [e.target for e in found] == [0, 1, 2]
    assert {e.path for e in found} <= {path for _, path in sources.untouched}
    with torch.no_grad():
        for e in found:
            assert int(sources.net.module(sources.net.preprocess(e.path)).argmax()) == e.target
    assert len(sources.examples(1)) == 1 and len(sources.examples(9)) == 3


def test_a_network_that_is_never_right_says_so(folder: Path) -> None:
    with pytest.raises(DeconvvizValueError, match="recognises none of the categories"):
        Sources(lambda: colours(("x", "y", "z")), data=folder).examples(2)


def test_given_pictures_come_first_and_are_named_by_their_folder(folder: Path, tmp_path: Path) -> None:
    picture = folder / "green" / "3.png"
    other = tmp_path / "a.png"
    other.write_bytes(picture.read_bytes())
    found = Sources(colours, data=folder, images=(picture, other)).examples(5)
    assert [(e.path, e.target, e.label) for e in found] == [(picture, 1, "green"), (other, None, None)]


def test_identity_tells_weights_and_data_apart(sources: Sources, folder: Path) -> None:
    assert sources.identity() == Sources(colours, data=folder).identity()
    other = Sources(colours, data=folder)
    with torch.no_grad():
        other.net.module.fc3.bias.add_(1)  # type: ignore[union-attr, operator]
    assert other.identity() != sources.identity()
    assert Sources(colours, data=folder.parent).identity() != sources.identity()


def test_a_folder_without_categories(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.png").write_bytes((folder / "red" / "0.png").read_bytes())
    with pytest.raises(DeconvvizValueError, match="no folders of pictures, one for each category"):
        _ = Sources(colours, data=tmp_path).untouched


def test_the_layers_of_a_paper() -> None:
    assert numbered(load("zfnet")) == ["1", "2", "3", "4", "5"] and pair(load("zfnet")) == ("1", "7")
    assert numbered(colours()) == ["1", "2"] and pair(colours()) == ("1", "3")
    # VGG-16's aliases are names: five of its thirteen convolutions, first and last among them.
    chosen = numbered(load("vgg11_32", "random"))
    assert len(chosen) == 5 and len(set(chosen)) == 5


def test_a_run_that_has_gone_on_is_another_source(tmp_path: Path, folder: Path) -> None:
    before = Sources(colours, data=folder, run=tmp_path)
    first, without = before.identity(), before.identity(("data",))
    (tmp_path / "epoch1.safetensors").write_bytes(b"1")
    assert before.identity() != first and before.identity(("data",)) == without
    second = before.identity()
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert before.identity() != second
