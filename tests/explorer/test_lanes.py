"""Turns: nothing is computed that nobody wants, nobody waits behind what takes long, no queue grows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deconvviz.explorer import lanes
from deconvviz.explorer.lanes import Busy, Lane, Overtaken, Tickets

from .conftest import Page


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


class Held:
    """Work that takes until it is let go."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go.wait(60)
        return "held"


async def begun(held: Held) -> None:
    while not held.begun.is_set():
        await asyncio.sleep(0.001)


def test_one_after_the_other_in_order(thread: ThreadPoolExecutor) -> None:
    async def main() -> None:
        lane, held, order = Lane(thread), Held(), []
        first = asyncio.create_task(lane.run(held))
        await begun(held)
        rest = [asyncio.create_task(lane.run(lambda k=k: order.append(k))) for k in range(5)]  # type: ignore[misc]
        await asyncio.sleep(0.01)
        assert order == []
        held.go.set()
        assert await first == "held"
        await asyncio.gather(*rest)
        assert order == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_a_hundred_moves_make_no_queue(thread: ThreadPoolExecutor) -> None:
    async def main() -> None:
        lane, tickets, held, done = Lane(thread), Tickets(), Held(), []
        first = asyncio.create_task(lane.run(held))
        await begun(held)
        moves = []
        for k in range(100):
            ticket = tickets.draw("tab", "projection", k)
            moves.append(asyncio.create_task(lane.run(lambda k=k: done.append(k), ticket)))  # type: ignore[misc]
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        # While the first still works, all but the latest are answered.
        assert [move.done() for move in moves] == [True] * 99 + [False]
        assert all(isinstance(move.exception(), Overtaken) for move in moves[:99])
        assert sum(not turn.done() for turn in lane._waiting) == 1
        held.go.set()
        await moves[99]
        await first
        assert done == [99]

    asyncio.run(main())


def test_other_tabs_kinds_and_plain_requests_are_not_overtaken(thread: ThreadPoolExecutor) -> None:
    async def main() -> None:
        lane, tickets, held = Lane(thread), Tickets(), Held()
        first = asyncio.create_task(lane.run(held))
        await begun(held)
        drawn = [tickets.draw(*given) for given in (("a", "x", 1), ("b", "x", 2), ("a", "y", 3), (None, "x", None))]
        tasks = [asyncio.create_task(lane.run(lambda: 1, ticket)) for ticket in drawn]
        held.go.set()
        await first
        assert await asyncio.gather(*tasks) == [1, 1, 1, 1]

    asyncio.run(main())


def test_what_comes_late_is_overtaken_already() -> None:
    tickets = Tickets()
    tickets.draw("a", "x", 7)
    with pytest.raises(Overtaken):
        tickets.draw("a", "x", 6)
    assert not tickets.draw("a", "x", 8).overtaken


def test_who_has_gone_costs_nothing(thread: ThreadPoolExecutor) -> None:
    async def main() -> None:
        async def gone() -> bool:
            return True

        done: list[int] = []
        with pytest.raises(Overtaken):
            await Lane(thread).run(lambda: done.append(1), None, gone)
        assert done == []

    asyncio.run(main())


def test_a_cancelled_wait_leaves_the_lane_as_it_was(thread: ThreadPoolExecutor) -> None:
    async def main() -> None:
        lane, held = Lane(thread), Held()
        first = asyncio.create_task(lane.run(held))
        await begun(held)
        waiting = [asyncio.create_task(lane.run(lambda: 1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        held.go.set()
        await first
        waiting[1].cancel()  # perhaps when its turn has come
        assert await waiting[2] == 1
        assert await lane.run(lambda: 2) == 2

    asyncio.run(main())


def test_errors_leave_the_lane_as_it_was(thread: ThreadPoolExecutor) -> None:
    async def main() -> None:
        lane = Lane(thread)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await lane.run(lambda: 1 // 0)
        assert await lane.run(lambda: 2) == 2

    asyncio.run(main())


def test_more_than_any_page_asks_is_refused(thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_MOST", 3)

    async def main() -> None:
        lane, held = Lane(thread), Held()
        first = asyncio.create_task(lane.run(held))
        await begun(held)
        waiting = [asyncio.create_task(lane.run(lambda: 1)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await lane.run(lambda: 1)
        held.go.set()
        await first
        assert await asyncio.gather(*waiting) == [1, 1, 1]

    asyncio.run(main())


def test_what_is_slow_stands_back_but_not_for_ever(thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_PATIENCE", 0.05)

    async def main() -> None:
        lane, held = Lane(thread), Held()
        await lane.rest()  # nobody works
        first = asyncio.create_task(lane.run(held))
        await begun(held)
        await lane.rest()  # patience ends, though it works still
        resting = asyncio.create_task(lane.rest())
        held.go.set()
        await first
        await resting

    asyncio.run(main())


def test_a_slow_request_blocks_no_quick_one(page: Page, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    monkeypatch.setattr(page.explorer._session, "file", lambda *_: ("x.png", held().encode()))
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(page.get, f"pictures/{first}/file", view="projection", layer="conv2", unit=1, format="png")
        assert held.begun.wait(60)
        assert page.json(f"pictures/{first}/projection", layer="conv2", unit=1)["unit"] == 1
        assert page.json("health")["version"]
        assert not slow.done()
        held.go.set()
        assert slow.result().content == b"held"


def test_overtaken_requests_are_told_so_and_do_no_work(page: Page, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held, asked = Held(), []
    projection = page.explorer._session.projection

    def slowly(id: str, what: object) -> object:
        asked.append(what)
        if len(asked) == 1:
            held()
        return projection(id, what)  # type: ignore[arg-type]

    monkeypatch.setattr(page.explorer._session, "projection", slowly)
    with ThreadPoolExecutor(8) as others:
        answers = []
        for q in range(1, 9):
            query = {"layer": "conv2", "unit": q, "tab": "t", "q": q}
            answers.append(others.submit(page.get, f"pictures/{first}/projection", **query))
            if q == 1:
                assert held.begun.wait(60)
            elif q < 8:
                pass
        while sum(answer.done() for answer in answers) < 6:  # those between are answered while the first works
            threading.Event().wait(0.005)
        held.go.set()
        codes = [answer.result().status_code for answer in answers]
    assert sorted(codes) == [200, 200] + [409] * 6 and codes[0] == 200
    assert len(asked) == 2
    assert all(
        answer.result().json() == {"error": "overtaken"} for answer in answers if answer.result().status_code == 409
    )


def test_a_newer_heat_map_ends_the_older(page: Page, first: str) -> None:
    path = f"/api/pictures/{first}/heat"
    with page.http.stream("GET", path, params={"stride": "1", "window": "3", "tab": "h", "q": 1}) as old:
        lines = old.iter_lines()
        next(lines)
        with page.http.stream("GET", path, params={"stride": "8", "window": "3", "tab": "h", "q": 2}) as new:
            assert list(new.iter_lines())[-1] == '{"end": true}'
        rest = list(lines)
    assert not rest or rest[-1] != '{"end": true}'


def test_a_heat_map_that_nobody_reads_ends(page: Page, first: str) -> None:
    with page.http.stream("GET", f"/api/pictures/{first}/heat", params={"stride": "1", "window": "3"}) as answer:
        next(answer.iter_lines())
    # The lane is free again for others, long before 900 positions are computed.
    head, *_, end = page.get(f"pictures/{first}/heat", stride="9").text.splitlines()
    assert '"total": 16' in head and end == '{"end": true}'
