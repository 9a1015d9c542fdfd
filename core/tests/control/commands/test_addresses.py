"""The forms in which an address is given to ``migrate`` and ``migrate-incoming``."""

from __future__ import annotations

import pytest

from .bench import ADDRESS, Bench, Json, Side


def channel(kind: str = "main", /, **addr: object) -> Json:
    """A channel, at a unix socket unless something else is said."""
    named = {name.replace("_", "-"): value for name, value in addr.items()}
    return {
        "channel-type": kind,
        "addr": named or {"transport": "socket", "type": "unix", "path": "/run/there.sock"},
    }


FORMS: list[tuple[str, Json]] = [
    ("exactly one of 'uri' and 'channels'", {}),
    ("exactly one of 'uri' and 'channels'", {"uri": ADDRESS, "channels": [channel()]}),
    ("exactly one of 'uri' and 'channels'", {"channels": []}),
    ("two entries of 'channels'", {"channels": [channel(), channel()]}),
    ("two entries of 'channels'", {"channels": [channel("cpr"), channel("cpr")]}),
    ("no entry of channel-type 'main'", {"channels": [channel("cpr")]}),
    ("'cpr'", {"channels": [channel(), channel("cpr")]}),
    ("is no migration address", {"uri": ""}),
    ("is no migration address", {"uri": "nowhere"}),
    ("is no migration address", {"uri": ":4444"}),
    ("'nosuch:'", {"uri": "nosuch:place"}),
    ("'TCP:'", {"uri": "TCP:127.0.0.1:4444"}),
    ("malformed", {"uri": "unix:"}),
    ("malformed", {"uri": "tcp:malformed"}),
    ("malformed", {"uri": "fd:"}),
]
"""What no address is, and what is said of it; for both directions."""


@pytest.mark.seed("S18", "S51", "S76")
@pytest.mark.parametrize(("said", "arguments"), FORMS)
async def test_migrate_refuses_what_is_no_address(here: Side, said: str, arguments: Json) -> None:
    assert said in await here.refusal("migrate", **arguments)


@pytest.mark.seed("S34", "S69")
@pytest.mark.parametrize(("said", "arguments"), FORMS)
async def test_migrate_incoming_refuses_what_is_no_address(
    there: Side, said: str, arguments: Json
) -> None:
    assert said in await there.refusal("migrate-incoming", **arguments)


def socket(kind: str, /, **members: object) -> Json:
    return channel("main", transport="socket", type=kind, **members)


MISTYPED: list[tuple[str, Json]] = [
    ("uri", {"uri": 5}),
    ("uri", {"uri": None}),
    ("detach", {"uri": ADDRESS, "detach": 1}),
    ("resume", {"uri": ADDRESS, "resume": "yes"}),
    ("blk", {"uri": ADDRESS, "blk": None}),
    ("to", {"uri": ADDRESS, "to": "there"}),
    ("exit-on-error", {"uri": ADDRESS, "exit-on-error": True}),
    ("channels", {"channels": channel()}),
    ("channels[0]", {"channels": ["unix:/run/there.sock"]}),
    ("channels[1]", {"channels": [channel(), 5]}),
    ("channels[0].channel-type", {"channels": [channel("other")]}),
    ("channels[0].addr", {"channels": [{"channel-type": "main"}]}),
    ("channels[0].addr.transport", {"channels": [channel(type="unix", path="/a")]}),
    ("channels[0].addr.transport", {"channels": [channel(transport="pigeon")]}),
    ("channels[0].addr.type", {"channels": [channel(transport="socket", path="/a")]}),
    ("channels[0].addr.path", {"channels": [socket("unix")]}),
    ("channels[0].addr.path", {"channels": [socket("unix", path=1)]}),
    ("channels[0].addr.port", {"channels": [socket("inet", host="h")]}),
    ("channels[0].addr.port", {"channels": [socket("inet", host="h", port=4444)]}),
    ("channels[0].addr.to", {"channels": [socket("inet", host="h", port="1", to=65536)]}),
    ("channels[0].addr.ipv4", {"channels": [socket("inet", host="h", port="1", ipv4="on")]}),
    ("channels[0].addr.host", {"channels": [socket("unix", path="/a", host="h")]}),
    ("channels[0].addr.offset", {"channels": [channel(transport="file", filename="/a")]}),
    (
        "channels[0].addr.offset",
        {"channels": [channel(transport="file", filename="/a", offset="0x1000")]},
    ),
    ("channels[0].addr.args", {"channels": [channel(transport="exec", args="/bin/true")]}),
    ("channels[0].addr.args[1]", {"channels": [channel(transport="exec", args=["/bin/true", 1])]}),
    ("channels[0].addr.str", {"channels": [socket("fd", name="a")]}),
]
"""Arguments of which one is not what it must be, and which one."""


@pytest.mark.parametrize(("position", "arguments"), MISTYPED)
async def test_migrate_names_the_argument_that_is_wrong(
    here: Side, position: str, arguments: Json
) -> None:
    assert f"'{position}'" in await here.refusal("migrate", **arguments)


CHANNELS: list[tuple[str, Json]] = [
    ("unix:/run/a,b.sock", socket("unix", path="/run/a,b.sock")),
    ("unix:/a", socket("unix", path="/a", abstract=False, tight=True)),
    ("tcp:h:4444", socket("inet", host="h", port="4444")),
    ("tcp:[::1]:4444", socket("inet", host="::1", port="4444")),
    ("tcp::4444", socket("inet", host="", port="4444")),
    ("tcp:h:1,to=5", socket("inet", host="h", port="1", to=5)),
    (
        "tcp:h:1,ipv4=on,ipv6=off,keep-alive=on,mptcp=off",
        socket("inet", host="h", port="1", ipv4=True, ipv6=False, keep_alive=True, mptcp=False),
    ),
    ("vsock:3:4444", socket("vsock", cid="3", port="4444")),
    ("rdma:h:1,ipv6=on", channel(transport="rdma", host="h", port="1", ipv6=True)),
]
"""An address in two forms."""


@pytest.mark.parametrize(("uri", "one"), CHANNELS)
async def test_channel_is_another_form_of_a_uri(bench: Bench, uri: str, one: Json) -> None:
    await bench.here.execute("migrate", channels=[one])
    await bench.there.execute("migrate-incoming", channels=[one])
    assert bench.wires.asked == [uri, uri]


BESIDE_A_URI: list[tuple[str, Json, Json]] = [
    ("exec:", {"args": ["/bin/cat"]}, channel(transport="exec", args=["/bin/cat"])),
    (
        "file:/a,offset=b",
        {"offset": 4096},
        channel(transport="file", filename="/a,offset=b", offset=4096),
    ),
    ("unix:/a", {"abstract": True, "tight": True}, socket("unix", path="/a", abstract=True)),
    (
        "unix:a",
        {"abstract": True, "tight": False},
        socket("unix", path="a", abstract=True, tight=False),
    ),
    (
        "tcp:127.0.0.1:1",
        {"numeric": True},
        socket("inet", host="127.0.0.1", port="1", numeric=True),
    ),
    ("tcp:h:1", {}, socket("inet", host="h", port="1", numeric=False)),
]
"""Addresses of which no URI can say all: the URI, and what is said beside it."""


@pytest.mark.parametrize(("uri", "options", "one"), BESIDE_A_URI)
async def test_what_no_uri_can_say_is_an_option(
    bench: Bench, uri: str, options: Json, one: Json
) -> None:
    await bench.here.execute("migrate", channels=[one])
    await bench.there.execute("migrate-incoming", channels=[one])
    assert bench.wires.asked == [uri, uri]
    assert bench.wires.options == [options, options]


async def test_guest_moves_over_a_channel(bench: Bench) -> None:
    await bench.there.execute("migrate-incoming", channels=[channel()])
    await bench.here.execute("migrate", channels=[channel()])
    await bench.finish()


@pytest.mark.parametrize(
    "one",
    [
        socket("inet", host="h,to=5", port="1"),
        socket("inet", host="h", port="1,to=5"),
        channel(transport="rdma", host="h", port="1,ipv4=off"),
    ],
)
async def test_comma_in_a_channel_is_refused_and_begins_no_option(bench: Bench, one: Json) -> None:
    await bench.here.refusal("migrate", channels=[one])
    await bench.there.refusal("migrate-incoming", channels=[one])
    assert bench.wires.asked == []
