"""Who computes when: a lane for quick questions, one for what takes long, and nobody waits for what nobody wants."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deconvviz.errors import DeconvvizError

T = TypeVar("T")
# What may wait in a lane; a page has a handful of questions under way.
_MOST = 64
_TABS = 256
# How long something slow stands back for quick questions, in seconds: a page that never rests must not starve it.
_PATIENCE = 1.0


class Overtaken(DeconvvizError):
    """A question whose page has asked a later one of its kind before this one's turn."""


class Busy(DeconvvizError):
    """More questions wait than any page asks."""


class Ticket:
    """A question's place among those of its page and kind."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.overtaken = False
        self._turn: asyncio.Future[None] | None = None

    async def wait(self, turn: asyncio.Future[None]) -> None:
        """Wait for a turn; raises `Overtaken` as soon as it is known that it is not wanted."""
        self._turn = turn
        await turn

    def overtake(self) -> None:
        """A later question has come."""
        self.overtaken = True
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(Overtaken("overtaken"))

    def check(self) -> None:
        """Raise `Overtaken` if it was."""
        if self.overtaken:
            raise Overtaken("overtaken")


class Tickets:
    """The latest question of each page and kind."""

    def __init__(self) -> None:
        self._latest: OrderedDict[tuple[str, str], Ticket] = OrderedDict()

    def draw(self, tab: str | None, kind: str, number: int | None) -> Ticket:
        """A ticket for the question `number` of a page; the one before it is overtaken."""
        ticket = Ticket(number)
        if tab is None or number is None:
            return ticket
        before = self._latest.get((tab, kind))
        if before is not None:
            assert before.number is not None
            if before.number > number:
                raise Overtaken("overtaken")
            before.overtake()
        self._latest[tab, kind] = ticket
        self._latest.move_to_end((tab, kind))
        while len(self._latest) > _TABS:
            self._latest.popitem(last=False)
        return ticket


class Lane:
    """One thread; who comes while it works waits, in order of coming, in the event loop and not in a thread.

    The thread belongs to the process: pages of several servers share it, so that a network never runs twice at once.
    """

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._working = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: asyncio.Event | None = None

    async def run(
        self, work: Callable[[], T], ticket: Ticket | None = None, gone: Callable[[], Awaitable[bool]] | None = None
    ) -> T:
        """`work()` in the thread, in turn; `Overtaken` if its ticket is by then, or who asked is `gone`."""
        ticket = ticket or Ticket()
        await self._enter(ticket)
        try:
            ticket.check()
            if gone is not None and await gone():
                raise Overtaken("gone")
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._leave()

    async def _enter(self, ticket: Ticket) -> None:
        idle = self._event()
        if not self._working:
            self._working = True
            idle.clear()
            return
        self._waiting = deque(turn for turn in self._waiting if not turn.done())
        if len(self._waiting) >= _MOST:
            raise Busy("too many questions at once; wait a moment")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await ticket.wait(turn)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave()  # its turn had come
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._working = False
        self._event().set()

    def _event(self) -> asyncio.Event:
        if self._idle is None:
            self._idle = asyncio.Event()
            self._idle.set()
        return self._idle

    async def rest(self) -> None:
        """Return when nobody works or waits here, or when that takes too long."""
        try:
            await asyncio.wait_for(self._event().wait(), _PATIENCE)
        except asyncio.TimeoutError:
            return


QUICK = ThreadPoolExecutor(1, "deconvviz-quick")
SLOW = ThreadPoolExecutor(1, "deconvviz-slow")
