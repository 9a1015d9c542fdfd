"""Runs a race: everybody in turns, and nobody's guest may arrive changed.

Every other round goes the other way round: nobody always comes first, or after the same one, and
images of 8 GiB, which do not fit beside two guests as large, are made half as often.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench.place import open_place

if TYPE_CHECKING:
    from bench.measuring import Move
    from bench.plan import Race


async def run(race: Race, rounds: int) -> dict[str, list[Move]]:
    """Let the contestants of a race take turns; those that cannot take part are left out.

    Raises:
        ValueError: A guest did not arrive as it was.
    """
    contestants = []
    for contestant in race.contestants:
        if obstacle := contestant.obstacle(race.work, race.scheme):
            print(f"{race.key}: without {contestant.name}: {obstacle}", file=sys.stderr)
        else:
            contestants.append(contestant)
    moves: dict[str, list[Move]] = {one.name: [] for one in contestants}
    with open_place() as place:
        for number in range(rounds):
            for contestant in contestants[:: -1 if number % 2 else 1]:
                place.make_room(contestant.own_bytes(race.work), race.work)
                move = await contestant.move(race.work, race.scheme, place)
                if move.is_right is False:
                    raise ValueError(f"{race.key}: {contestant.name}: memory arrived wrong")
                moves[contestant.name].append(move)
                print(
                    f"{race.key} {number + 1}/{rounds} {contestant.name}: "
                    f"{move.total_s * 1e3:.0f} ms",
                    file=sys.stderr,
                )
    return moves
