"""A dialogue as data: which requests, on which side, and what a QEMU 10.0 says to each.

A file has these members:

- `about`: what it is about, a sentence.
- `side`: `source`, a guest that does not run (`-S`), or `destination`, one that waits for
  `migrate-incoming`. A step may name another one; a side is started when a step first needs it.
- `negotiated`: false leaves `qmp_capabilities` to the steps.
- `steps`: in their order, each with one of these

  - `do`: a command, and its arguments as JSON: `'migrate {"uri": "{sink}"}'`.
  - `send`: the same as raw text, for requests that are none, or have an `id`.
  - `hex`: the same as bytes. An empty request awaits one more answer to the last one.
  - `dial`: not a request; connect to a unix socket and leave `bytes` there.

  and, as needed,

  - `error`: the class of the error that QEMU answers with. Without it, it succeeds.
  - `silence`: true, if there is no answer. `closes`: true, if the connection ends after it.
  - `loose`: true, if more answers may follow, as to text that is no JSON; they are dropped.
  - `returns`: members of the answer and their values. A path, such as `ram.total`, is a name too.
  - `until`: the same; the request is repeated until the answer has them.
  - `wait_s`: wait so long before.
  - `events`: those since the last step that had some, each as its name and its data.
  - `uncounted`: the name of events that are left out, as nobody knows how many there are.
  - `keep`: names for members of the answer, to be used in braces by later requests.
  - `descriptor`: which file descriptor goes with the request: `idle`, a socket whose other end does
    nothing; `sink`, a socket where somebody takes whatever comes; a file that is open to be
    `written`, to be `read`, or for `both`.
  - `signature`: of `query-qmp-schema`, look at this command only, and through it.
  - `id`: of the answer, as JSON text, if it is not the one of the request; empty for none.
  - `difference`: the name of a difference in `differences.toml`, or a list of them.

In braces stand `{sink}` and `{sink-port}`: a URI, and a TCP port, where somebody takes whatever
comes; `{silent}`: where the last word is missing, that the guest has arrived; `{stuck}`: where
somebody does not even read, so no migration ends; `{nobody}` and `{nobody-port}`: where nobody
listens; `{tmp}`: a folder of its own; `{pki}`: one with certificates.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Side = Literal["source", "destination"]

FOLDER: Final = Path(__file__).parent
DIFFERENCES: Final = FOLDER / "differences.toml"

OK: Final = "ok"
SILENCE: Final = "silence"
CLASSES: Final = frozenset(
    {"GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound", "KVMMissingCap"}
)

_FILE_MEMBERS: Final = frozenset({"about", "side", "negotiated", "steps"})


@dataclass(frozen=True, slots=True)
class Difference:
    """Where Transship's answer is not QEMU's, on purpose.

    Attributes:
        name: By which steps refer to it.
        where: The command, or the part of the protocol.
        qemu: What QEMU does, in words; empty where the members below say it.
        ours: What Transship does, in words; empty where the members below say it.
        reason: Why.
        only_qemu: Paths of members that only QEMU's answer has.
        only_ours: Paths of members that only ours has.
        types: Paths of members that have another JSON type.
        outcome: What ours comes to: `ok`, `silence`, or the class of an error.
        values: Paths of members that were compared, and our values.
        events: The events that we emit.
        echoes: False, if our answer has another `id`.
    """

    name: str
    where: str
    reason: str
    qemu: str = ""
    ours: str = ""
    only_qemu: tuple[str, ...] = ()
    only_ours: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    outcome: str | None = None
    values: Mapping[str, Any] | None = None
    events: tuple[str, ...] | None = None
    echoes: bool = True


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to a unix socket, leave some bytes there, and hang up."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """One request, and what QEMU 10.0 says to it. See the module for the members.

    Attributes:
        title: The request as it stands in the file.
    """

    title: str
    side: Side
    request: bytes | Dial
    outcome: str
    returns: Mapping[str, Any]
    until: Mapping[str, Any]
    wait_s: float
    events: tuple[str, ...] | None
    uncounted: str | None
    keep: Mapping[str, str]
    closes: bool
    loose: bool
    descriptor: str | None
    signature: str | None
    echo: str | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One file."""

    name: str
    about: str
    negotiated: bool
    steps: tuple[Step, ...]


def dialogues(folder: Path = FOLDER) -> list[Dialogue]:
    """Read all dialogues.

    Raises:
        ValueError: One of them is not in the form.
    """
    known = differences(folder / DIFFERENCES.name)
    return [
        read(path, known) for path in sorted(folder.glob("*.toml")) if path.name != DIFFERENCES.name
    ]


def differences(path: Path = DIFFERENCES) -> dict[str, Difference]:
    """Read the differences, by their names."""
    return {
        name: _difference(name, given)
        for name, given in tomllib.loads(path.read_text(encoding="utf-8")).items()
    }


def read(path: Path, known: Mapping[str, Difference]) -> Dialogue:
    """Read one dialogue.

    Raises:
        ValueError: It is not in the form.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    if surplus := content.keys() - _FILE_MEMBERS:
        raise ValueError(f"{path.name} has unknown members: {sorted(surplus)}")
    return Dialogue(
        name=path.stem,
        about=content["about"],
        negotiated=content.get("negotiated", True),
        steps=tuple(
            _step(f"{path.name}, step {number}", step, content["side"], known)
            for number, step in enumerate(content["steps"], start=1)
        ),
    )


def _difference(name: str, given: Mapping[str, Any]) -> Difference:
    members: dict[str, Any] = {
        key: tuple(one) if isinstance(one, list) else one for key, one in given.items()
    }
    return Difference(name=name, **members)


def _step(
    where: str, given: Mapping[str, Any], side: Side, known: Mapping[str, Difference]
) -> Step:
    rest = dict(given)
    request, title = _request(where, rest)
    named = rest.pop("difference", [])
    outcome = rest.pop("error", OK)
    if outcome != OK and outcome not in CLASSES:
        raise ValueError(f"{where}: no class of errors: {outcome}")
    events = rest.pop("events", None)
    step = Step(
        title=title,
        side=rest.pop("side", side),
        request=request,
        outcome=SILENCE if rest.pop("silence", False) else outcome,
        returns=flat(rest.pop("returns", {})),
        until=flat(rest.pop("until", {})),
        wait_s=rest.pop("wait_s", 0.0),
        events=None if events is None else tuple(events),
        uncounted=rest.pop("uncounted", None),
        keep=rest.pop("keep", {}),
        closes=rest.pop("closes", False),
        loose=rest.pop("loose", False),
        descriptor=rest.pop("descriptor", None),
        signature=rest.pop("signature", None),
        echo=_echo(request, rest.pop("id", None)),
        differences=tuple(known[name] for name in ([named] if isinstance(named, str) else named)),
    )
    if rest:
        raise ValueError(f"{where}: unknown members {sorted(rest)}")
    return step


def _request(where: str, step: dict[str, Any]) -> tuple[bytes | Dial, str]:
    """Take what a step sends out of it, and return it with its title."""
    match [name for name in ("do", "send", "hex", "dial") if name in step]:
        case ["do"]:
            title: str = step.pop("do")
            command, _, arguments = title.partition(" ")
            request = f'{{"execute": "{command}"'
            request += f', "arguments": {arguments}}}' if arguments else "}"
            return request.encode(), title
        case ["send"]:
            text: str = step.pop("send")
            return text.encode(), text
        case ["hex"]:
            digits: str = step.pop("hex")
            return bytes.fromhex(digits), f"bytes {digits}"
        case ["dial"]:
            path: str = step.pop("dial")
            return Dial(path, step.pop("bytes", "").encode()), f"somebody dials {path}"
        case _:
            raise ValueError(f"{where}: wants one of do, send, hex, dial")


def flat(members: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested tables into paths: `ram = { total = 1 }` becomes `"ram.total" = 1`."""
    found: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _echo(request: bytes | Dial, stated: str | None) -> str | None:
    """Return the `id` of the answer as JSON text; None if it has none."""
    if stated is not None:
        return stated or None
    try:
        message = json.loads(request, parse_float=number) if isinstance(request, bytes) else None
    except ValueError:
        return None
    return json.dumps(message["id"]) if isinstance(message, dict) and "id" in message else None


def number(text: str) -> int | float:
    """Read a JSON number with a point or an exponent; 1.0 is the integer 1, as JSON has it."""
    value = float(text)
    return int(value) if value.is_integer() else value
