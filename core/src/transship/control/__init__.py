"""Control: the QEMU Machine Protocol (QMP), spoken to whoever steers the migrations of a process.

``qapi`` says what a command may take and give, ``registry`` keeps the commands, ``introspect``
tells clients of them, and a ``session`` is what is remembered of a client. ``server`` carries
bytes, and knows only the protocol's own commands. ``commands`` are QEMU's, upon a
:class:`~transship.hosting.host.Host`, and ``hmp`` is its human monitor upon them. ``service`` puts
them together; ``client`` is the other end, and shares nothing but the ``address``.
"""
