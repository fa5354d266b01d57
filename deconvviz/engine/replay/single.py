"""One change of a picture after the other replayed, as fast as each can be."""

from __future__ import annotations

from collections.abc import Callable

from deconvviz.engine.recording import Recording
from deconvviz.engine.replay.replay import Reach, Replay
from deconvviz.engine.windows import Patch


class Single:
    """Changes of one window of the recorded picture, one at a time; `keep` are values that must come out."""

    def __init__(self, rec: Recording, keep: tuple[int, ...]) -> None:
        self.replay = Replay(rec, keep)

    def run(self, patch: Patch, take: Callable[[int, Patch], None]) -> None:
        """Replay the change `patch` of the picture (K = 1); `take` gets every kept value as it comes."""
        at = patch.windows
        assert at is not None
        down = self.replay.trace(at.rows, at.height, 0)
        right = self.replay.trace(at.cols, at.width, 1)

        def reach(n: int) -> Reach | None:
            rows, cols = down[n], right[n]
            return None if rows is None or cols is None else (rows, cols)

        self.replay.run({0: patch}, range(len(self.replay.steps)), take, reach)
