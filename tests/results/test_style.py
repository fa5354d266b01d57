"""Equal figures are equal files: no time inside but the one that is asked for."""

from __future__ import annotations

import io
import time

import pytest

from deconvviz.results.style import new_figure, write


def encoded(kind: str) -> bytes:
    figure = new_figure(2, 1)
    figure.text(0.5, 0.5, "text")
    figure.add_axes((0.1, 0.1, 0.8, 0.8)).plot([1, 2, 1])
    buffer = io.BytesIO()
    write(figure, buffer, kind, {"Title": "t", "Software": "deconvviz 0", "Description": "{}"})
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_time_leaves_no_trace(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = encoded(kind)
    time.sleep(1.1)
    assert encoded(kind) == first and time.strftime("%Y-%m-%d").encode() not in first and b"CreationDate" not in first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert (b"19700102" in encoded(kind) or b"1970-01-02" in encoded(kind)) == (kind != "png")
