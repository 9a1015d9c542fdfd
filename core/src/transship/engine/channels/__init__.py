"""Extra channels: memory beside the stream, each channel in a thread of its own."""
