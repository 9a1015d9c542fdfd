"""The VMDESCRIPTION's text, put together from the texts of the device sections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def compose(machine: str, page_size: int, devices: Iterable[str]) -> bytes:
    """The whole text, in QEMU 10.0's form.

    Args:
        machine: Machine type name, as in the configuration section.
        page_size: Bytes of a target page.
        devices: JSON objects of the device sections, in stream order.
    """
    configuration = {
        "vmsd_name": "configuration",
        "version": 1,
        "fields": [
            {"name": "len", "type": "uint32", "size": 4},
            {"name": "name", "type": "buffer", "size": len(machine)},
        ],
    }
    text = (
        f'{{"configuration": {json.dumps(configuration)}, "page_size": {page_size}, '
        f'"devices": [{", ".join(devices)}]}}'
    )
    return text.encode("ascii")


def opaque_device(idstr: str, instance_id: int, size: int) -> str:
    """The object of a section that does not describe itself: one buffer of ``size`` bytes."""
    return json.dumps(
        {
            "name": idstr,
            "instance_id": instance_id,
            "size": size,
            "fields": [{"name": "data", "size": size, "type": "buffer"}],
        }
    )
