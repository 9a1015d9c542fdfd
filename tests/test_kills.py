"""One side dies, or the path between them, at any moment: one side at most can run the guest."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import trio
from faults_support import Host, Hosts, Progress, Relay, record_ends, until
from tls_certificates import SERVER, make_folder

from transship.disks import RawImage
from transship.errors import CheckpointError
from transship.guests.diskpattern import DiskTraits
from transship.guests.journal import read_journal
from transship.guests.spec import parse_guest
from transship.guests.stored import StoredGuest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_SEED: Final = 20_141
DISK_BYTES: Final = 8 << 20
DISK_RATE: Final = 16 << 20
_SIDES: Final = ("source", "destination")
SLOW_GUEST: Final = "synthetic:ram=1MiB,tick=500ms"


class Route(NamedTuple):
    """Where one passage goes.

    Args:
        uri: Where the destination is.
        target: Where the source goes; None for what the destination says.
        descriptors: What the source inherits, and what the destination does.
    """

    uri: str
    target: str | None = None
    descriptors: tuple[int, int] | None = None


def over_unix(hosts: Hosts) -> Route:
    return Route(hosts.unix("destination"))


def through_commands(hosts: Hosts) -> Route:
    fifo = hosts.folder / "fifo"
    os.mkfifo(fifo)
    return Route(f"exec:cat {fifo}", f"exec:cat > {fifo}")


def through_commands_and_back(hosts: Hosts) -> Route:
    there, back = hosts.folder / "there", hosts.folder / "back"
    os.mkfifo(there)
    os.mkfifo(back)
    return Route(
        f"exec:cat {there} & exec cat > {back}",
        f"exec:cat {back} & exec cat > {there}",
    )


def over_a_pipe(_: Hosts) -> Route:
    reads, writes = os.pipe()
    return Route(f"fd:{reads}", f"fd:{writes}", (writes, reads))


def over_sockets(_: Hosts) -> Route:
    one, other = (end.detach() for end in socket.socketpair())
    return Route(f"fd:{other}", f"fd:{one}", (one, other))


class Way(NamedTuple):
    """How a guest goes from one process to the other.

    Args:
        memory: What the guest's is made of.
        options: Of both commands.
        is_secured: Whether it goes over TLS.
        route: Makes the addresses.
        provider: What libfabric must have.
        kills: How many there are of it in an ordinary run.
        soak_kills: How many in a long one.
        has_disk: Whether the guest has a disk, on storage that both sides share.
        copies_disk: Whether each side has a disk of its own, and the contents move.
    """

    memory: str = "anonymous"
    options: tuple[str, ...] = ()
    is_secured: bool = False
    route: Callable[[Hosts], Route] = over_unix
    provider: str | None = None
    kills: int = 1
    soak_kills: int = 30
    has_disk: bool = False
    copies_disk: bool = False

    def skip_if_missing(self) -> None:
        """Skip the test where libfabric lacks what the way needs."""
        if self.provider is not None:
            fabric = pytest.importorskip("transship_rdma._fabric", reason="no transship-rdma")
            if self.provider not in fabric.providers_at("127.0.0.1"):
                pytest.skip(f"this libfabric has no provider {self.provider}")


def over_fabric(provider: str) -> Way:
    uri = f"rdma:127.0.0.1:0,provider={provider}"
    return Way(route=lambda _: Route(uri), provider=provider)


WAYS: Final = {
    "stream": Way(kills=10, soak_kills=240),
    "extra channels": Way(options=("--cap", "multifd"), kills=10, soak_kills=240),
    "handed over": Way("memfd", kills=10, soak_kills=240),
    "with a disk": Way(has_disk=True, kills=4, soak_kills=240),
    "with the contents of a disk": Way(
        options=("--cap", "block"), copies_disk=True, kills=4, soak_kills=240
    ),
    "over TLS": Way("memfd", is_secured=True, kills=4, soak_kills=240),
    "extra channels over TLS": Way(
        options=("--cap", "multifd"), is_secured=True, kills=4, soak_kills=240
    ),
    "commands": Way(route=through_commands),
    "commands, and back": Way(options=("--cap", "return-path"), route=through_commands_and_back),
    "inherited pipe": Way(route=over_a_pipe),
    "inherited socket": Way(route=over_sockets),
    "TLS over an inherited socket": Way(route=over_sockets, is_secured=True),
    "TLS over tcp": Way(route=lambda _: Route("tcp:127.0.0.1:0"), is_secured=True),
    "rdma, tcp": over_fabric("tcp;ofi_rxm"),
    "rdma, sockets": over_fabric("sockets"),
}


class Passage:
    """A guest that leaves one process for another, or for a checkpoint folder.

    Args:
        hosts: Starts them.
        is_stored: Whether it is for a checkpoint folder.
        is_slow: Whether the guest counts rarely, so that two passages are the same bytes.
    """

    def __init__(
        self,
        hosts: Hosts,
        *,
        is_stored: bool = False,
        is_slow: bool = False,
        way: Way | None = None,
    ) -> None:
        self.hosts = hosts
        way = way or WAYS["stream"]
        self._options = way.options
        if way.is_secured:
            credentials = make_folder(hosts.folder / "pki")
            self._options += (
                "--set",
                f"tls-creds={credentials}",
                "--set",
                f"tls-hostname={SERVER}",
            )
        self.is_stored = is_stored
        self.folder = hosts.folder / "checkpoints"
        self.folder.mkdir()
        self.checkpoint = self.folder / "vm"
        self.address = hosts.unix("destination")
        self._make_route = way.route
        self.source: Host
        self.destination: Host
        self._ticks_within_s = 0.7 if is_slow else 0.05
        if is_slow:
            self._guest = f"{SLOW_GUEST},journal={hosts.journal}"
        else:
            self._guest = (
                f"synthetic:ram=16MiB,dirty-rate=16MiB/s,memory={way.memory},"
                f"journal={hosts.journal}"
            )
        self._disks: dict[str, Path] = {}
        if way.has_disk:
            self._disks = dict.fromkeys(_SIDES, hosts.folder / "disk.raw")
        if way.copies_disk:
            self._disks = {side: hosts.folder / f"{side}.raw" for side in _SIDES}

    async def start(self, via: str | None = None) -> None:
        """Start the destination, and then the source, with a relay between them or without."""
        self._there_before = set(self.folder.iterdir())
        route = self._make_route(self.hosts)
        ours, theirs = (
            ((number,) for number in route.descriptors) if route.descriptors else ((), ())
        )
        if self.is_stored:
            arguments = ["receive", route.uri, "--to", str(self.checkpoint)]
        else:
            guest = f"{self._guest_of('destination')},seed=99"
            arguments = ["run", guest, "--incoming", route.uri]
        self.destination = self.hosts.start(
            "destination", *arguments, *self._options, descriptors=theirs
        )
        listening_at = await self.destination.listening()
        self.source = self.hosts.start(
            *("source", "run", self._guest_of("source"), "--bandwidth", "unlimited"),
            *("--migrate-to", via or route.target or listening_at),
            *("--after", "200ms" if via else "0s"),
            *self._options,
            descriptors=ours,
        )
        for descriptor in (*ours, *theirs):
            os.close(descriptor)

    def _guest_of(self, side: str) -> str:
        if not self._disks:
            return self._guest
        disk = self._disks[side]
        return f"{self._guest},disk={disk},disk-size={DISK_BYTES},disk-rate={DISK_RATE}"

    async def judge(self) -> str:
        """Find out who has the guest, and that nobody else has; returns a name for the outcome."""
        here = await self._source_outcome()
        there = await self._destination_outcome()
        outcome = f"source {here}, destination {there}"
        match here, there:
            case "runs", "gone" | "killed" | "paused" | "unconfirmed":
                await self._runs_in(self.source, 1, besides=self.destination)
            case "paused" | "killed", "runs":
                await self._runs_in(self.destination, 0)
            case "left", "runs":
                assert await self.source.ended() in (0, -signal.SIGKILL)
                await self._runs_in(self.destination, 0)
            case "killed", "paused":
                await self._stands_still_until_told(self.destination)
            case "paused", "killed":
                await self._stands_still_until_told(self.source)
            case "paused", "paused":
                await self.hosts.stands_still(self._ticks_within_s)
                await self._stands_still_until_told(self.destination)
                assert (await self.source.stop())["exit_code"] == 7
            case "paused", "stored" | "unconfirmed":
                await self._stands_still_until_told(self.source)
            case "left", "killed" | "stored":
                assert await self.source.ended() in (0, -signal.SIGKILL)
            case "killed", "killed" | "gone" | "stored" | "unconfirmed":
                pass
            case _:
                raise AssertionError(f"that cannot be: {outcome}")
        if self.is_stored:
            self._check_folder(here, there)
        self.hosts.judge()
        await until(lambda: not self.hosts.orphans(), "no command is left", 5)
        if self._disks:
            self._check_disk()
        return outcome

    async def _source_outcome(self) -> str:
        event = await self._event(self.source, "left")
        if event is None:
            return "killed"
        if event["event"] == "left":
            return "left"
        return {1: "runs", 7: "paused"}[event["exit_code"]]

    async def _destination_outcome(self) -> str:
        """What became of the destination; one that nobody ever came to is told to end."""
        if self.is_stored:
            await self._until(lambda: self.destination.has_ended)
            if not self.destination.has_ended:
                self.destination.send(signal.SIGTERM)
            code = await self.destination.ended()
            names = {0: "stored", 1: "gone", 5: "gone", 7: "unconfirmed", -signal.SIGKILL: "killed"}
            return names[code]
        event = await self._event(self.destination, "arrived")
        if event is None and not self.destination.has_ended:
            self.destination.send(signal.SIGTERM)
            event = await self._event(self.destination, "arrived")
        if self.destination.process.returncode == -signal.SIGKILL:
            return "killed"
        assert event is not None
        if event["event"] == "failed" and event["exit_code"] in (1, 5):
            assert await self.destination.ended() == event["exit_code"]
            return "gone"
        return {0: "runs", 7: "paused"}[event["exit_code"]]

    async def _event(self, host: Host, name: str) -> dict[str, Any] | None:
        """What it says; None if it was killed first, or waits for somebody who will not come."""
        await self._until(lambda: host.has_ended or host.find_event(name, "failed") is not None)
        return host.find_event(name, "failed")

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait; not long if the source has died, since the destination hears of that at once."""
        with trio.move_on_after(60):
            while not condition():
                is_alone = self.source.process.returncode == -signal.SIGKILL
                with trio.move_on_after(3 if is_alone else 0.1) as scope:
                    await until(condition, "")
                if is_alone and scope.cancelled_caught:
                    return

    async def _runs_in(self, host: Host, code: int, besides: Host | None = None) -> None:
        await self.hosts.ticks_on(host)
        assert besides is None or self.hosts.ticks_of(besides) == 0
        await self._ends_whole(host, code)

    async def _stands_still_until_told(self, host: Host) -> None:
        """The guest is there, paused; and it can be let run, unless it ran on the other side."""
        await self.hosts.stands_still(self._ticks_within_s)
        other = self.destination if host is self.source else self.source
        has_run_on = other is self.destination and self.hosts.ticks_of(other) > 0
        if not has_run_on and not (self.is_stored and self.checkpoint.exists()):
            host.send(signal.SIGUSR1)
            await self.hosts.ticks_on(host)
        await self._ends_whole(host, 7)

    @staticmethod
    async def _ends_whole(host: Host, code: int) -> None:
        stopped = await host.stop()
        assert stopped["guest"]["consistent"] is True, stopped
        assert stopped["exit_code"] == code

    def _check_disk(self) -> None:
        """What the guest had written when it told its counter is there, and nothing older."""
        counter, pid = max((one.counter, one.pid) for one in read_journal(self.hosts.journal))
        path = self._disks["source" if pid == self.source.pid else "destination"]
        traits = DiskTraits(0, DISK_BYTES, DISK_RATE, 1_000_000)
        assert traits.written_blocks(counter) > 0
        image = RawImage.open(path)
        image.acquire()
        assert traits.first_wrong_block(image.read_into, counter, ahead=1) is None
        image.close()

    def _check_folder(self, here: str, there: str) -> None:
        """Nothing looks complete but a checkpoint that the source has given up."""
        paths = set(self.folder.iterdir()) - self._there_before
        names = {path.name for path in paths}
        match there:
            case "stored":
                assert names == {"vm"}
                StoredGuest.open(self.checkpoint).close()
            case "gone":
                assert names == set()
            case "unconfirmed":
                assert names == {"vm.unconfirmed"}
                StoredGuest.open(self.folder / "vm.unconfirmed", allow_unconfirmed=True).close()
        for path in paths:
            if here == "runs" or there == "unconfirmed":
                with pytest.raises(CheckpointError):
                    StoredGuest.open(path)


# Random moments.


@dataclass
class Aim:
    """When passages end: most kills are to come about then, where the guest changes hands.

    Args:
        end_s: From the first tick to the end; learnt from passages, and from what kills met.
    """

    end_s: float

    def draw(self, chance: random.Random) -> float:
        """How long after the first tick to kill."""
        if chance.random() < 0.3:
            return chance.uniform(0, self.end_s)
        return max(0.0, chance.gauss(self.end_s, 0.01))

    def learn(self, outcome: str) -> None:
        """Kill a little earlier if the guest was through, and a little later if it was not."""
        step_s = max(0.004, self.end_s / 10)
        self.end_s += -step_s if "source left" in outcome else step_s


_USUAL_END_S: Final = 0.2
"""Good enough for a single kill."""


async def take_aim(way: Way) -> Aim:
    """Let a guest pass that nobody kills, and see how long it takes."""
    with Hosts() as hosts:
        passage = Passage(hosts, way=way)
        await passage.start()
        await until(lambda: hosts.ticks() > 0, "the guest runs", poll_s=0.001)
        started_s = trio.current_time()
        left = partial(passage.source.find_event, "left")
        await until(lambda: left() is not None, "the guest has left", poll_s=0.002)
        aim = Aim(trio.current_time() - started_s)
        assert await passage.judge() == "source left, destination runs"
    return aim


async def kill_one(seed: int, aim: Aim, way: Way) -> str:
    """One passage with one kill, all of it drawn from a seed; returns the outcome."""
    chance = random.Random(seed)
    is_stored = chance.random() < 0.4
    victim = chance.choice(["source", "destination"])
    delay_s = aim.draw(chance)
    with Hosts() as hosts:
        try:
            passage = Passage(hosts, is_stored=is_stored, way=way)
            await passage.start()
            await until(lambda: hosts.ticks() > 0, "the guest runs", poll_s=0.001)
            await trio.sleep(delay_s)
            await getattr(passage, victim).kill()
            outcome = await passage.judge()
        except BaseException as error:
            kind = "receive" if is_stored else "run"
            error.add_note(f"seed {seed}: {kind}, {victim} killed after {delay_s:.4f} s")
            raise
    return f"{'receive' if is_stored else 'run'}, {victim} killed: {outcome}"


async def kill_many(
    first: int, count: int, way: Way, progress: Progress | None = None
) -> Counter[str]:
    """Kill with so many seeds, and go on where the last run stopped; returns the outcomes."""
    noted = progress.load() if progress else {}
    outcomes = Counter[str](noted.get("outcomes", {}))
    aim = Aim(_USUAL_END_S) if count == 1 else await take_aim(way)
    for number in range(noted.get("next", 0), count):
        outcome = await kill_one(_SEED + first + number, aim, way)
        aim.learn(outcome)
        outcomes[outcome] += 1
        if progress:
            progress.note(next=number + 1, outcomes=outcomes)
    for outcome, times in outcomes.most_common():
        print(f"{times:5} {outcome}")
    return outcomes


@pytest.mark.parametrize("way", WAYS)
async def test_process_killed_at_a_random_moment_leaves_one_guest_at_most(way: str) -> None:
    WAYS[way].skip_if_missing()
    outcomes = await kill_many(1000, WAYS[way].kills, WAYS[way])
    assert outcomes.total() == WAYS[way].kills


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS)
async def test_hundreds_of_processes_killed_at_random_moments_leave_one_guest_at_most(
    way: str,
) -> None:
    WAYS[way].skip_if_missing()
    kills = WAYS[way].soak_kills
    outcomes = await kill_many(0, kills, WAYS[way], Progress(f"kills: {way}"))
    assert outcomes.total() == kills


# Chosen moments: after a certain byte has gone one way or the other.


class Moment(NamedTuple):
    """A byte of the stream or of the return path.

    Args:
        name: Of what ends with it.
        forward_bytes: How many bytes of the stream there are up to it; None if it is not there.
        backward_bytes: How many bytes of the return path; None if it is not there.
    """

    name: str
    forward_bytes: int | None
    backward_bytes: int | None


_ANSWER_BYTES: Final = 8
_ANSWERS: Final = ("PONG 1", "PONG 2", "SHUT")


def answered(name: str) -> Moment:
    """The moment at which the destination's word has gone back."""
    return Moment(name, None, _ANSWER_BYTES * (_ANSWERS.index(name) + 1))


async def record(*, is_stored: bool) -> list[Moment]:
    """Let a guest pass over a relay; returns all moments at which a record has ended."""
    with Hosts() as hosts:
        passage = Passage(hosts, is_stored=is_stored, is_slow=True)
        relay = Relay(hosts.unix("relay"), passage.address)
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            await passage.start(relay.uri)
            await passage.judge()
        assert len(relay.backward) == _ANSWER_BYTES * len(_ANSWERS)
        ends = record_ends(bytes(relay.forward), parse_guest(SLOW_GUEST))
        return [*(Moment(end.name, end.offset, None) for end in ends), *map(answered, _ANSWERS)]


_ACTIONS: Final = ("cut", "kill source", "kill destination")


async def interfere(moment: Moment, action: str, *, is_stored: bool) -> str:
    """Cut the path at a moment, or kill somebody first; returns the outcome."""
    with Hosts() as hosts:
        passage = Passage(hosts, is_stored=is_stored, is_slow=True)

        async def event() -> None:
            if action != "cut":
                await getattr(passage, action.removeprefix("kill ")).kill()

        relay = Relay(
            hosts.unix("relay"),
            passage.address,
            forward_bytes=moment.forward_bytes,
            backward_bytes=moment.backward_bytes,
            event=event,
        )
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(relay.run)
                await passage.start(relay.uri)
                await until(lambda: relay.has_happened, f"the relay has passed {moment}")
                outcome = await passage.judge()
        except BaseException as error:
            error.add_note(f"{action} after {moment}, {is_stored=}")
            raise
    return outcome


@pytest.fixture(scope="module")
def moments() -> list[Moment]:
    """Of a passage between two processes."""
    return trio.run(partial(record, is_stored=False))


def at(moments: Sequence[Moment], name: str) -> Moment:
    return next(moment for moment in moments if moment.name == name)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("body of ram", "source runs, destination gone"),
        ("rest of the package", "source runs, destination gone"),
        ("PING 2", "source runs, destination paused"),
        ("PONG 2", "source paused, destination paused | source runs, destination paused"),
        ("EndOfStream", "source paused, destination runs"),
        ("VMDescription", "source paused, destination runs"),
        ("SHUT", "source left, destination runs"),
    ],
)
async def test_path_cut_after_a_record_leaves_the_guest_where_the_record_says(
    name: str, outcome: str, moments: list[Moment]
) -> None:
    """A source that hears PONG and the end of the path at once has not given the guest up yet."""
    assert await interfere(at(moments, name), "cut", is_stored=False) in outcome.split(" | ")


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("rest of the package", "source runs, destination gone"),
        ("PONG 2", "source paused, destination unconfirmed | source runs, destination unconfirmed"),
        ("EndOfStream", "source paused, destination stored"),
    ],
)
async def test_path_cut_on_the_way_to_a_folder_leaves_no_folder_or_says_what_it_is(
    name: str, outcome: str, moments: list[Moment]
) -> None:
    assert await interfere(at(moments, name), "cut", is_stored=True) in outcome.split(" | ")


@pytest.mark.parametrize("action", _ACTIONS[1:])
async def test_process_killed_between_answer_and_end_leaves_the_guest_paused_on_the_other(
    action: str,
) -> None:
    outcome = await interfere(answered("PONG 2"), action, is_stored=False)
    assert outcome in (
        "source paused, destination killed",
        "source runs, destination killed",
        "source killed, destination paused",
    )


@pytest.mark.soak
@pytest.mark.parametrize("action", _ACTIONS)
@pytest.mark.parametrize("is_stored", [False, True], ids=["run", "receive"])
async def test_every_record_boundary_leaves_one_guest_at_most(
    action: str, is_stored: bool, moments: list[Moment]
) -> None:
    progress = Progress(f"boundaries, {action}, {is_stored=}")
    outcomes: dict[str, str] = progress.load()
    for moment in moments:
        key = f"{moment.forward_bytes}/{moment.backward_bytes} {moment.name}"
        if key not in outcomes:
            outcomes[key] = await interfere(moment, action, is_stored=is_stored)
            progress.note(**outcomes)
    for key, outcome in outcomes.items():
        print(f"{action} after {key}: {outcome}")


# Folders.


async def test_folder_whose_receiver_was_killed_can_be_received_into_again() -> None:
    with Hosts() as hosts:
        passage = Passage(hosts, is_stored=True, is_slow=True)
        relay = Relay(
            hosts.unix("relay"),
            passage.address,
            forward_bytes=200_000,
            event=lambda: passage.destination.kill(),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            await passage.start(relay.uri)
            assert await passage.judge() == "source runs, destination killed"
        (left,) = passage.folder.iterdir()
        assert left.name.startswith(".vm.partial-")

        hosts.journal.unlink()
        await passage.start()
        assert await passage.judge() == "source left, destination stored"


async def test_guest_goes_on_from_a_folder_without_a_skipped_tick() -> None:
    with Hosts() as hosts:
        passage = Passage(hosts, is_stored=True)
        await passage.start()
        assert await passage.judge() == "source left, destination stored"

        waiting = hosts.start(
            *("again", "run", f"synthetic:ram=16MiB,journal={hosts.journal}"),
            *("--incoming", hosts.unix("again")),
        )
        sending = hosts.start("send", "send", str(passage.checkpoint), await waiting.listening())
        assert await sending.ended() == 0
        await hosts.ticks_on(waiting)
        assert (await waiting.stop())["guest"]["consistent"] is True
        assert hosts.judge().passages == 1
