import types
from pathlib import Path

import pytest

from transship.errors import BlockedError, CheckpointError
from transship.guests.scratch import ScratchGuest
from transship.guests.spec import parse_guest
from transship.guests.synthetic import SyntheticGuest


def test_synthetic_takes_all_options(tmp_path: Path) -> None:
    guest = parse_guest(
        "synthetic:ram=4MiB,dirty-rate=8MiB/s,working-set=1MiB,seed=0x10,zero=0.25,tick=2ms,"
        f"journal={tmp_path / 'journal'}"
    )
    assert isinstance(guest, SyntheticGuest)
    with guest:
        assert guest.traits.ram_bytes == 4 << 20
        assert guest.traits.dirty_rate_bytes_per_s == 8 << 20
        assert guest.traits.working_pages == 256
        assert guest.traits.seed == 16
        assert guest.traits.zero_pages == 64
        assert guest.traits.tick_ns == 2_000_000
        assert (tmp_path / "journal").exists()
        assert guest.verify().ok


def test_incoming_synthetic_is_not_filled() -> None:
    guest = parse_guest("synthetic:ram=4MiB", incoming=True)
    assert isinstance(guest, SyntheticGuest)
    with guest:
        assert not guest.verify().ok


def test_factory_of_a_module_makes_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("machine_room")
    module.makers = types.SimpleNamespace(scratch=ScratchGuest)  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "machine_room", module)
    assert isinstance(parse_guest("machine_room:makers.scratch"), ScratchGuest)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no guest"),
        ("stored:", "folder is missing"),
        ("nothing", "names no guest"),
        (":x", "names no guest"),
        ("synthetic:ram", "'ram' is no option"),
        ("synthetic:colour=red", "'colour=red' is no option"),
        ("synthetic:ram=lots", "ram is wrong"),
        ("synthetic:ram=4097", "whole pages"),
        ("synthetic:ram=1MiB,ram=2MiB", "twice"),
        ("synthetic:ram=1MiB,working-set=2MiB", "does not fit"),
        ("synthetic:zero=2", "between 0 and 1"),
        ("synthetic:zero=nan", "no fraction"),
        ("synthetic:seed=x", "seed is wrong"),
        ("synthetic:journal=/nonexistent/x", "/nonexistent/x"),
        ("no.such.module:factory", "ModuleNotFoundError"),
        ("json:no_such_thing", "AttributeError"),
        ("builtins:dict", "which is no Guest"),
        ("os:kill", "factory failed"),
    ],
)
def test_text_that_names_no_guest_is_answered_with_what_is_allowed(text: str, told: str) -> None:
    with pytest.raises(BlockedError) as caught:
        parse_guest(text)
    assert told in str(caught.value)
    assert "stored:DIR" in str(caught.value)


def test_stored_names_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        parse_guest(f"stored:{tmp_path}")
