"""One model in several threads: right to the bit, unseen by others, and models of their own at the same time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import deconvviz
from deconvviz import Network
from deconvviz.analyses.features import features
from deconvviz.engine import holding
from deconvviz.engine.holding import held
from deconvviz.engine.passes import eager
from deconvviz.engine.recorder import record

LONG = 60  # seconds that no step of a test takes; only a failure waits as long


class Net(nn.Module):
    """Every part that differs between train and eval, and a buffer that every pass writes to."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
                nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
            )  # fmt: skip
            self.head = nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.outs: list[Tensor] = []  # shared by all passes, as plain lists are

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.outs.clear()
        for part in self.body:
            x = part(x)
            self.outs.append(x)
        return self.head(self.outs[-1].mean((2, 3)))  # type: ignore[no-any-return]


def pictures(count: int) -> list[Tensor]:
    return list(torch.randn(count, 1, 3, 16, 14, generator=torch.Generator().manual_seed(3)))


def seen(model: nn.Module) -> list[object]:
    """What another thread can see of a model."""
    return [
        (m.training, sorted(vars(m)), list(m._forward_hooks), list(m._forward_pre_hooks),
         [b.tolist() for b in m._buffers.values() if b is not None],
         [p.grad for p in m._parameters.values() if p is not None])
        for m in model.modules()
    ]  # fmt: skip


def asked(model: nn.Module, x: Tensor, k: int) -> list[Tensor]:
    """One of several questions, and all that its answer says."""
    if k % 4 == 0:
        p = deconvviz.project(model, x, ["body.2", "body.6", "head"][k % 3], top=3)
        return [p.pixels, p.activations, p.units]
    if k % 4 == 1:
        return [deconvviz.project(model, x, "body.6", top=2, method="gradient", seed="map").pixels]
    if k % 4 == 2:
        o = deconvviz.occlude(model, x, window=4, stride=4, layer="body.6")
        return [o.logits, o.activity] if o.activity is not None else [o.logits]
    return list(features(model, x, ["body.3", ""]).values())


def in_threads(calls: Sequence[Callable[[], object]], threads: int) -> list[object]:
    """What these calls give, run by several threads that begin together."""
    begin = threading.Barrier(threads)

    def first(call: Callable[[], object], number: int) -> object:
        if number < threads:
            begin.wait(LONG)
        return call()

    with ThreadPoolExecutor(threads) as pool:
        return [f.result(LONG) for f in [pool.submit(first, c, n) for n, c in enumerate(calls)]]


@pytest.mark.parametrize("train", [True, False])
def test_one_model_in_eight_threads_answers_as_in_one(train: bool, hostile: int) -> None:
    model = Net().train(train)
    given = pictures(6)
    wanted = {(i, k): asked(model, x, k) for i, x in enumerate(given) for k in range(4)}
    before = seen(model)
    changes: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if (now := seen(model)) != before:
                changes.append(now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        keys = [key for _ in range(3 * hostile) for key in wanted]
        found = in_threads([lambda i=i, k=k: asked(model, given[i], k) for i, k in keys], 8)
    finally:
        done.set()
        watcher.join()
    for key, answer in zip(keys, found, strict=True):
        assert all(a.equal(b) for a, b in zip(answer, wanted[key], strict=True)), key  # type: ignore[call-overload]
    assert not changes and seen(model) == before


def test_a_users_forward_meanwhile_is_its_own() -> None:
    """In the middle of our pass another thread trains: it sees its own modes, and we see nothing of it."""
    model, alone = Net().train(), Net().train()
    model.body[7].p = alone.body[7].p = 0.0  # type: ignore[union-attr]  # its draws would not be comparable
    (x, other) = pictures(2)
    plain = record(model, x)
    results: list[Tensor] = []
    active = threading.local()

    def meanwhile(_m: nn.Module, _x: object, _y: object) -> None:
        if threading.current_thread() is threading.main_thread() and not getattr(active, "inside", False):
            active.inside = True
            with ThreadPoolExecutor(1) as pool:
                results.append(pool.submit(lambda: outside(other)).result(LONG))

    def outside(x: Tensor) -> Tensor:
        return holder["model"]()(x)  # type: ignore[no-any-return]

    holder: dict[str, Callable[[], Net]] = {"model": [lambda: model][0]}
    model.body[3].register_forward_hook(Hook(meanwhile))
    rec = record(model, x)
    assert rec.dispatched == plain.dispatched
    assert {k: len(v) for k, v in rec.calls.items()} == {k: len(v) for k, v in plain.calls.items()}
    assert rec.values[rec.outputs[""]].equal(plain.values[plain.outputs[""]])
    assert results[0].equal(alone(other))
    for (name, found), wanted in zip(model.named_buffers(), alone.buffers(), strict=True):
        assert found.equal(wanted), name  # what the training pass wrote stays


class Hook:
    """A user's own hook, whose parts no copy looks into."""

    def __init__(self, call: Callable[..., None]) -> None:
        self.inner = [[call]]

    def __call__(self, *args: object) -> None:
        self.inner[0][0](*args)


def test_models_of_their_own_are_in_their_passes_at_the_same_time() -> None:
    both = threading.Barrier(2)
    models = [Net(1), Net(2)]
    for model in models:
        model.body[4].register_forward_hook(Hook(lambda *_: both.wait(LONG)))
    (x,) = pictures(1)
    recordings = in_threads([lambda m=m: record(m, x) for m in models], 2)  # neither ends before both are inside
    assert len(recordings) == 2 and not both.broken


@pytest.mark.parametrize("what", ["the same", "a shared part"])
def test_passes_that_share_a_part_come_one_after_another(what: str) -> None:
    first = Net()
    second = first if what == "the same" else nn.Sequential(first.body, nn.Flatten())
    inside, go = threading.Event(), threading.Event()
    order: list[str] = []

    def begins(*_: object) -> None:
        order.append("begins")
        inside.set()
        assert go.wait(LONG)

    first.body[0].register_forward_pre_hook(Hook(begins))
    first.body[7].register_forward_hook(Hook(lambda *_: order.append("ends")))
    (x,) = pictures(1)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(record, first, x)
        assert inside.wait(LONG)
        two = pool.submit(record, second, x)
        while not holding._freed._waiters:  # type: ignore[attr-defined]  # until it waits for the first
            assert not two.done()
        assert order == ["begins"]
        go.set()
        one.result(LONG), two.result(LONG)
    assert order == ["begins", "ends"] * 2
    assert not holding._holders


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_pass_that_fails_holds_nothing_any_more(error: type[BaseException]) -> None:
    def fails(*_: object) -> None:
        raise error("in the pass")

    model = Net()
    handle = model.body[2].register_forward_hook(Hook(fails))
    (x,) = pictures(1)
    with pytest.raises(error, match="in the pass"):
        record(model, x)
    assert not holding._holders
    handle.remove()
    assert in_threads([lambda: record(model, x)], 1)


def test_hooks_that_ask_something_of_the_other_model_do_not_wait_for_each_other() -> None:
    models = [Net(1), Net(2)]
    (x,) = pictures(1)
    both, deep = threading.Barrier(2), threading.local()
    answers: list[Tensor] = []

    def asks(other: Callable[[], Net]) -> Callable[..., None]:
        def hook(*_: object) -> None:
            if not getattr(deep, "inside", False):
                deep.inside = True
                both.wait(LONG)  # each holds its own by now
                answers.append(features(other(), x, [""])[""])
                deep.inside = False

        return hook

    wanted = [features(m, x, [""])[""] for m in models]
    for k, model in enumerate(models):
        model.body[4].register_forward_hook(Hook(asks([lambda k=k: models[1 - k]][0])))
    in_threads([lambda m=m: record(m, x) for m in models], 2)
    assert len(answers) == 2 and all(any(a.equal(w) for w in wanted) for a in answers)
    assert not holding._holders


def test_held_is_taken_again_by_its_own_thread() -> None:
    model = Net()
    with held(model), held(model.body), held(model):
        assert set(holding._holders.values()) == {threading.get_ident()}
    assert not holding._holders


def test_what_is_compiled_runs_eagerly_until_the_last_thread_has_gone() -> None:
    stance = torch._dynamo.eval_frame  # type: ignore[attr-defined]
    before = stance._stance.stance
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(eager)
    second.enter_context(eager)
    first.close()  # the first to come is the first to go: what it had found is not put back yet
    assert stance._stance.stance == "force_eager"
    second.close()
    assert stance._stance.stance == before


def test_scans_of_models_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two at the same time find what each finds alone, and leave the process as it was."""
    folder = tmp_path_factory.mktemp("stores")
    models = [Network(Net(k).train(), (16, 14)) for k in (1, 2)]
    data = torch.cat(pictures(12))
    threads = torch.get_num_threads()

    def scanned(k: int, name: str) -> list[Tensor]:
        with deconvviz.scan(models[k], data, ["body.6"], top=3, store=folder / f"{name}{k}.sqlite", workers=0) as store:
            return [torch.tensor([[s.activation for s in store.top("body.6", unit)] for unit in range(8)])]

    wanted = [scanned(k, "alone") for k in (0, 1)]
    found = in_threads([lambda k=k: scanned(k, "both") for k in (0, 1)], 2)
    assert all(a.equal(b) for w, f in zip(wanted, found, strict=True) for a, b in zip(w, f, strict=True))  # type: ignore[call-overload]
    assert torch.get_num_threads() == threads


def test_another_thread_may_run_the_model_meanwhile() -> None:
    inside, done = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if threading.current_thread().name == "recording":
                inside.set()
                assert done.wait(60)
            return x * 2

    module = nn.Sequential(nn.Conv2d(1, 2, 3), Waits(), nn.ReLU()).eval()
    x, found = torch.rand(1, 1, 8, 8), []
    thread = threading.Thread(target=lambda: found.append(record(module, x)), name="recording")
    thread.start()
    assert inside.wait(60)
    with torch.no_grad():
        other = module(torch.rand(1, 1, 5, 5))
    done.set()
    thread.join()
    (rec,) = found
    alone = module(x).detach()
    assert other.shape == (1, 2, 3, 3)
    assert {path: len(calls) for path, calls in rec.calls.items()} == {"": 1, "0": 1, "1": 1, "2": 1}
    assert rec.output is not None and torch.equal(rec.values[rec.output], alone)
    assert [op.name for op in rec.ops] == ["convolution", "mul", "relu"]
