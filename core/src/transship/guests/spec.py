"""A guest as named on a command line: ``synthetic:…``, ``stored:DIR`` or ``module:factory``."""

from __future__ import annotations

import importlib
import math
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from transship.abc.guest import Guest
from transship.errors import BlockedError, MigrationError
from transship.guests.choosing import DirtyLogKind
from transship.memory.ramblock import Backing
from transship.units import parse_rate, parse_size, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transship.abc.disk import BlockDevice, Disk

EXPECTED: Final = (
    "synthetic[:ram=SIZE,dirty-rate=RATE,working-set=SIZE,seed=N,zero=FRACTION,tick=TIME,"
    "memory=KIND,huge-pages=yes|no,prefault=yes|no,dirty-log=KIND,journal=PATH,disk=PATH|URI,"
    "disk-size=SIZE,disk-rate=RATE,disk-working-set=SIZE], stored:DIR or "
    "MODULE:FACTORY"
)

_DEFAULT_RAM: Final = 256 * 1024 * 1024
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
"""Begins a disk that is no file; a file whose name begins so is ``./nbd:x``."""


def parse_guest(
    text: str,
    *,
    incoming: bool = False,
    open_device: Callable[[str], BlockDevice] | None = None,
) -> Guest:
    """Make the guest that a text names.

    ===================  ========================================================================
    ``synthetic:…``      a :class:`~transship.guests.synthetic.SyntheticGuest`; options in any
                         order, all of them optional: ``ram`` (256MiB), ``dirty-rate`` (0),
                         ``working-set`` (an eighth of RAM), ``seed`` (0), ``zero`` (0), ``tick``
                         (1ms), ``memory`` (``anonymous``; or ``memfd``), ``huge-pages``
                         (``yes``), ``prefault`` (``no``), ``dirty-log`` (``marked``; or
                         ``write-protect``, ``comparing``, ``auto``), ``journal`` (none),
                         ``disk`` (none; a raw image, made if it is missing, or the URI of a
                         device, such as ``nbd://host/export``; for several disks several
                         times: they are called ``disk0``, ``disk1`` ...), ``disk-size``
                         (of each; what an image has that is there), ``disk-rate`` (of writes to
                         each, 0), ``disk-working-set`` (how much of each is written, all)
    ``stored:DIR``       a checkpoint folder, to be sent
    ``module:factory``   what ``factory()`` of a Python module returns; dots lead to members
    ===================  ========================================================================

    Args:
        text: What somebody typed.
        incoming: Whether it will wait for a migration, and need not be filled.
        open_device: Opens a disk that is named by its URI; without it there are files only.

    Raises:
        BlockedError: It names no guest; says what is allowed.
        ConnectError: A disk cannot be reached.
        PluginError: No plugin knows a disk's URI.
        CheckpointError: The checkpoint is damaged.
    """
    head, _, rest = text.partition(":")
    match head:
        case "synthetic":
            return _synthetic(text, rest, incoming, open_device)
        case "stored":
            from transship.guests.stored import StoredGuest

            if not rest:
                raise _refused(text, "a checkpoint folder is missing")
            return StoredGuest.open(Path(rest))
        case _ if head and rest:
            return _made_by_factory(text, head, rest)
    raise _refused(text, "it names no guest")


def _synthetic(
    text: str, rest: str, incoming: bool, open_device: Callable[[str], BlockDevice] | None
) -> Guest:
    from transship.guests.synthetic import SyntheticGuest

    given: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if name not in _OPTIONS or not equals:
            raise _refused(text, f"{part!r} is no option")
        key, read = _OPTIONS[name]
        if key in given and key != "disks":
            raise _refused(text, f"{name} is given twice")
        try:
            if key == "disks":
                given.setdefault(key, []).append(read(value))
            else:
                given[key] = read(value)
        except (ValueError, OverflowError) as error:
            raise _refused(text, f"{name} is wrong: {error}") from error
    ram_bytes = given.pop("ram_bytes", _DEFAULT_RAM)
    given.setdefault("working_set_bytes", ram_bytes // 8)
    with ExitStack() as undo:
        try:
            _check_disk_options(given)
            images, size_bytes = given.pop("disks", []), given.pop("disk_size", None)
            given["disks"] = _disks(images, size_bytes, open_device, undo)
            guest = SyntheticGuest(ram_bytes, fill=not incoming, **given)
        except (ValueError, OverflowError, OSError) as error:
            raise _refused(text, str(error)) from error
        undo.pop_all()
    return guest


def _check_disk_options(given: Mapping[str, object]) -> None:
    """Refuse what is said of disks where there are none."""
    if "disks" not in given:
        for name, (key, _) in _OPTIONS.items():
            if name.startswith("disk-") and key in given:
                raise ValueError(f"{name} is given, and no disk")


def _disks(
    images: list[str],
    size_bytes: int | None,
    open_device: Callable[[str], BlockDevice] | None,
    undo: ExitStack,
) -> list[Disk]:
    from transship.abc.disk import Disk

    disks = []
    for number, image in enumerate(images):
        if open_device is not None and _URI.match(image):
            device = open_device(image)
        else:
            device = _image(Path(image), size_bytes)
        undo.callback(device.close)
        if size_bytes not in (None, device.size_bytes):
            raise ValueError(f"{image} has {device.size_bytes} bytes, not {size_bytes}")
        disks.append(Disk(f"disk{number}", device))
    return disks


def _image(path: Path, size_bytes: int | None) -> BlockDevice:
    from transship.disks import RawImage

    if size_bytes is not None and not path.exists():
        return RawImage.create(path, size_bytes)
    return RawImage.open(path)


def _made_by_factory(text: str, module_name: str, path: str) -> Guest:
    try:
        target: Any = importlib.import_module(module_name)
        for name in path.split("."):
            target = getattr(target, name)
    except Exception as error:
        raise _refused(text, f"{type(error).__name__}: {error}") from error
    try:
        guest = target()
    except MigrationError:
        raise
    except Exception as error:
        raise _refused(text, f"the factory failed: {type(error).__name__}: {error}") from error
    if not isinstance(guest, Guest):
        raise _refused(text, f"the factory returned {type(guest).__name__}, which is no Guest")
    return guest


def _refused(text: str, cause: str) -> BlockedError:
    return BlockedError(f"guest {text!r}: {cause}", expected=EXPECTED)


def _seed(text: str) -> int:
    return int(text, 0)


def _fraction(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no fraction")
    return value


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def _yes_or_no(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


_OPTIONS: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "ram": ("ram_bytes", parse_size),
    "dirty-rate": ("dirty_rate_bytes_per_s", parse_rate),
    "working-set": ("working_set_bytes", parse_size),
    "seed": ("seed", _seed),
    "zero": ("zero_fraction", _fraction),
    "tick": ("tick_s", parse_time),
    "memory": ("memory", _one_of(*get_args(Backing))),
    "huge-pages": ("huge_pages", _yes_or_no),
    "prefault": ("prefault", _yes_or_no),
    "dirty-log": ("dirty_log", _one_of(*get_args(DirtyLogKind))),
    "journal": ("journal", Path),
    "disk": ("disks", str),
    "disk-size": ("disk_size", parse_size),
    "disk-rate": ("disk_rate_bytes_per_s", parse_rate),
    "disk-working-set": ("disk_working_set_bytes", parse_size),
}
