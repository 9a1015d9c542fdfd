"""Control: the QEMU Machine Protocol (QMP), spoken to whoever steers the migrations of a process.

Layers: ``jsonstream`` finds messages in bytes; ``schema`` and ``qapi`` say what a command takes and
gives; ``registry`` keeps the commands; ``dispatcher`` answers one message; ``connection`` and
``server`` carry bytes, and are all that knows trio. Nothing here is imported until it is asked for.
"""
