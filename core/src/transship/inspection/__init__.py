"""What is in a stream or in a checkpoint, without a machine to load it."""

from __future__ import annotations

from transship.inspection.checkpoint import read_checkpoint
from transship.inspection.render import render
from transship.inspection.report import Report
from transship.inspection.stream import read_stream

__all__ = ["Report", "read_checkpoint", "read_stream", "render"]
