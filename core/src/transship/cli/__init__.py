"""The command line: the only place, with ``assembly``, that knows everything.

``verbs`` are what is typed, and each hands on to a body: in ``local``, if the guest is in this
process, in ``driving``, if it is in another that is reached over QMP. ``progress`` is what is shown
meanwhile; the modules beside this text are what both kinds of bodies share.
"""
