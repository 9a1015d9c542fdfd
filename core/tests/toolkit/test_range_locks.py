"""Ranges that one has to itself, in the order of coming."""

from __future__ import annotations

import threading

from transship.toolkit import RangeLocks

PATIENCE_S = 10.0


def test_ranges_apart_are_held_together_and_others_wait() -> None:
    locks = RangeLocks()
    got: list[str] = []

    def want(name: str, wanted: range) -> threading.Thread:
        def take() -> None:
            with locks.held(wanted):
                got.append(name)

        thread = threading.Thread(target=take)
        thread.start()
        return thread

    with locks.held(range(10)):
        want("apart", range(10, 20)).join(PATIENCE_S)
        waiting = want("overlapping", range(9, 11))
        waiting.join(0.05)
        assert got == ["apart"]
    waiting.join(PATIENCE_S)
    assert got == ["apart", "overlapping"]


def test_nobody_who_waits_for_much_is_overtaken_by_those_who_want_little() -> None:
    locks = RangeLocks()
    has_all = threading.Event()

    def take_all() -> None:
        with locks.held(range(4)):
            has_all.set()

    def take_little(place: int) -> None:
        while not has_all.is_set():
            with locks.held(range(place, place + 1)):
                has_all.wait(0.01)

    few = [threading.Thread(target=take_little, args=(place,)) for place in range(4)]
    everything = threading.Thread(target=take_all)
    for thread in (*few, everything):
        thread.start()
    assert has_all.wait(PATIENCE_S)
    for thread in (*few, everything):
        thread.join()
