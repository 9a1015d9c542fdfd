"""Plays a dialogue to whoever speaks QMP at a unix socket, and compares what two of them said.

Knows neither QEMU nor Transship: how a side is started is up to the caller.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from .connection import POLL_S, Connection, Json
from .script import OK, SILENCE, Dial, Difference, Side
from .shapes import ABSENT, Shape, kind_at, member, shape_of, signature, unlike
from .surroundings import Surroundings, dial, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from .script import Dialogue, Step

    Start = Callable[[Side, Path], AbstractAsyncContextManager[Path]]
    """Starts a side in a folder of its own, and says where it takes commands."""


UNTIL_S: Final = 25.0
"""How long an answer that is waited for may take, on a machine that does much else."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one step.

    Attributes:
        outcome: `ok`, `silence`, or the class of the error.
        shape: Of what was returned, or of the error.
        echo: The `id` of the answer, as JSON text; None if it has none.
        values: The members that the step compares, by their paths.
        events: Name and data of each, if the step asks for events.
        event_shapes: The shape of these events, by their names.
        closed: Whether the connection has ended, if the step asks for it.
        said: The whole answer, to be shown.
    """

    outcome: str
    shape: Shape = field(default_factory=dict)
    echo: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] | None = None
    event_shapes: Mapping[str, Shape] = field(default_factory=dict)
    closed: bool = False
    said: object = None


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Where two answers differ and should not, or do not differ and were said to.

    Attributes:
        title: Of the step.
        aspect: `only_qemu`, `only_ours`, `types`, `outcome`, `values`, `events`, `echoes`.
        path: Of the member, where it is about one.
        qemu: What QEMU says.
        ours: What we say.
        said: Our whole answer, where that explains something.
        stale: The name of the difference which says so, if it is not so.
    """

    title: str
    aspect: str
    path: str = ""
    qemu: object = None
    ours: object = None
    said: object = None
    stale: str | None = None

    def __str__(self) -> str:
        if self.stale is not None:
            there = f" at {self.path}" if self.path else ""
            return f"{self.title}: {self.stale!r} says {self.aspect}{there}, which is not so"
        match self.aspect:
            case "only_qemu" | "only_ours":
                whose = "QEMU's" if self.aspect == "only_qemu" else "our"
                return f"{self.title}: only {whose} answer has {self.path}"
            case _:
                there = f" {self.path}" if self.path else ""
                said = f" ({self.said})" if self.said is not None else ""
                both = f"QEMU {self.qemu!r}, we {self.ours!r}{said}"
                return f"{self.title}: {self.aspect}{there}: {both}"


async def play(dialogue: Dialogue, start: Start, folder: Path) -> list[Answer]:
    """Play all steps.

    Args:
        dialogue: The dialogue.
        start: Called for each side, when a step first needs it.
        folder: For the sockets; its path must be short.

    Returns:
        An answer for each step.
    """
    async with surroundings(folder) as around, AsyncExitStack() as started:
        sides: dict[Side, Connection] = {}
        answers: list[Answer] = []
        for step in dialogue.steps:
            if step.side not in sides:
                path = await started.enter_async_context(start(step.side, folder))
                sides[step.side] = await started.enter_async_context(Connection(path))
                await sides[step.side].greet(negotiate=dialogue.negotiated)
            answers.append(await _play_step(step, sides[step.side], around))
        return answers


def check(step: Step, answer: Answer) -> list[str]:
    """Return where QEMU's answer is not what the dialogue says."""
    wrong: list[str] = []
    if answer.outcome != step.outcome:
        wrong.append(f"{step.outcome} was expected, {answer.outcome} came: {answer.said}")
    expected = {**step.returns, **step.until}
    wrong += [
        f"{path} is {answer.values.get(path, ABSENT)!r}, not {value!r}"
        for path, value in expected.items()
        if answer.values.get(path, ABSENT) != value
    ]
    if answer.echo != step.echo and step.outcome != SILENCE:
        wrong.append(f"its id is {answer.echo}, not {step.echo}")
    if answer.events != step.events:
        wrong.append(f"the events are {answer.events}, not {step.events}")
    if answer.closed != step.closes:
        wrong.append(f"the connection is {'closed' if answer.closed else 'open'}")
    return [f"{step.title}: {one}" for one in wrong]


def compare(
    title: str, qemu: Answer, ours: Answer, differences: Sequence[Difference] = ()
) -> list[Discrepancy]:
    """Return where two answers to one step differ, except where that is declared.

    A declared difference that does not occur is a discrepancy too.
    """
    found = {(one.aspect, one.path): one for one in _discrepancies(title, qemu, ours)}
    stale: list[Discrepancy] = []
    for difference in differences:
        for aspect, path, value in _declared(difference):
            here = found.get((aspect, path))
            if here is not None and (value is None or here.ours == value):
                del found[aspect, path]
            else:
                stale.append(Discrepancy(title, aspect, path, stale=difference.name))
    return [*found.values(), *stale]


def _discrepancies(title: str, qemu: Answer, ours: Answer) -> list[Discrepancy]:
    if qemu.outcome != ours.outcome:
        return [Discrepancy(title, "outcome", "", qemu.outcome, ours.outcome, ours.said)]
    found = [
        Discrepancy(title, aspect, path, kind_at(qemu.shape, path), kind_at(ours.shape, path))
        for aspect, path in unlike(qemu.shape, ours.shape)
    ]
    for path, value in qemu.values.items():
        if ours.values.get(path) != value:
            found.append(Discrepancy(title, "values", path, value, ours.values.get(path, ABSENT)))
    if qemu.echo != ours.echo:
        found.append(Discrepancy(title, "echoes", "", qemu.echo, ours.echo))
    if qemu.events != ours.events:
        found.append(Discrepancy(title, "events", "", qemu.events, ours.events))
    for name, shape in qemu.event_shapes.items():
        found += [
            Discrepancy(title, aspect, path)
            for aspect, path in unlike({name: shape}, {name: ours.event_shapes.get(name, shape)})
        ]
    if qemu.closed != ours.closed:
        found.append(Discrepancy(title, "closes", "", qemu.closed, ours.closed))
    return found


def _declared(difference: Difference) -> list[tuple[str, str, object]]:
    """Return what a difference says: aspect, path, and our value where it says one."""
    said: list[tuple[str, str, object]] = [
        (aspect, path, None)
        for aspect in ("only_qemu", "only_ours", "types")
        for path in getattr(difference, aspect)
    ]
    said += [("values", path, value) for path, value in (difference.values or {}).items()]
    if difference.outcome is not None:
        said.append(("outcome", "", difference.outcome))
    if difference.events is not None:
        said.append(("events", "", difference.events))
    if not difference.echoes:
        said.append(("echoes", "", None))
    return said


async def _play_step(step: Step, connection: Connection, around: Surroundings) -> Answer:
    await trio.sleep(step.wait_s)
    reply: Json | None = {"return": {}}
    if isinstance(step.request, Dial):
        await dial(around.filled(step.request.path), step.request.data)
    else:
        request = around.filled(step.request.decode("utf-8", "surrogateescape"))
        reply = await _ask(step, request.encode("utf-8", "surrogateescape"), connection, around)
    events = None
    if step.events is not None:
        events = await connection.events(step.events, but=step.uncounted)
    if step.loose:
        await connection.drop()
    closed = await connection.ends() if step.closes else False
    return _answer(step, reply, events, around, closed=closed)


async def _ask(
    step: Step, request: bytes, connection: Connection, around: Surroundings
) -> Json | None:
    """Ask, and again until the answer is the one that is waited for."""
    deadline = trio.current_time() + UNTIL_S
    while True:
        descriptor = around.descriptors[step.descriptor] if step.descriptor else None
        reply = await connection.ask(request, silent=step.outcome == SILENCE, fd=descriptor)
        returned = None if reply is None else reply.get("return")
        come = all(_value(returned, path) == value for path, value in step.until.items())
        if reply is None or come or trio.current_time() > deadline:
            return reply
        await trio.sleep(POLL_S)


def _answer(
    step: Step, reply: Json | None, events: list[Json] | None, around: Surroundings, *, closed: bool
) -> Answer:
    told = {} if events is None else {one["event"]: shape_of(one) for one in events}
    words = None if events is None else tuple(map(_words, events))
    if reply is None:
        return Answer(SILENCE, events=words, event_shapes=told, closed=closed)
    if surplus := reply.keys() - {"return", "error", "id"}:
        return Answer(f"odd members {sorted(surplus)}", said=reply)
    returned: Any = reply.get("return")
    if step.signature is not None and "return" in reply:
        shape = signature(returned, step.signature)
    else:
        shape = shape_of(returned if "return" in reply else reply["error"])
    for name, path in step.keep.items():
        around.keep(name, str(_value(returned, path)))
    return Answer(
        outcome=OK if "return" in reply else reply["error"]["class"],
        shape=shape,
        echo=json.dumps(reply["id"]) if "id" in reply else None,
        values={path: _value(returned, path) for path in {**step.returns, **step.until}},
        events=words,
        event_shapes=told,
        closed=closed,
        said=reply,
    )


def _value(returned: object, path: str) -> Any:
    with suppress(LookupError, ValueError):
        return member(returned, path)
    return ABSENT


def _words(event: Json) -> str:
    """Return an event in words: `MIGRATION setup`."""
    data = event.get("data", {})
    values = [data[name] for name in sorted(data)]
    return " ".join(
        [event["event"], *(one if isinstance(one, str) else json.dumps(one) for one in values)]
    )
