"""Control: the QEMU Machine Protocol (QMP), spoken to whoever steers the migrations of a process.

``server`` carries bytes and knows no command. ``qapi`` says what a command may take and give, and
``registry`` keeps the commands. ``commands`` are QEMU's, and ``human`` its monitor's words, upon a
:class:`~transship.hosting.host.Host`. ``service`` puts them together, ``client`` is the other end.
"""
