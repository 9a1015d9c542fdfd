"""The README's example, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from devstate_helpers import EOF, load, save

from transship.abc import Device
from transship.errors import StreamError

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture
def example() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec", dont_inherit=True), names)
    return names


def test_example_moves_its_device(example: dict[str, Any]) -> None:
    device = example["uart"]
    assert isinstance(device, Device)
    sent = example["Uart"](control=3, deadline=10**9, level=2, fifo=[7, 8] + [0] * 14)
    data = save(device.description, sent)
    assert load(device.description, device.state, data + EOF) == len(data)
    assert device.state == sent


def test_example_loads_a_stream_of_its_first_version(example: dict[str, Any]) -> None:
    state = example["Uart"](deadline=5)
    assert load(example["UART"], state, b"\3" + EOF, version=1) == 1
    assert state == example["Uart"](control=3, deadline=5)


def test_promised_error_is_the_one_that_comes(example: dict[str, Any]) -> None:
    data = b"\0" * 9 + b"\5\x09uart/fifo\0\0\0\1\xc8" + bytes(200)
    with pytest.raises(StreamError) as caught:
        load(example["UART"], example["Uart"](), data, offset=4711 - 25)
    assert str(caught.value) in " ".join(README.split())
