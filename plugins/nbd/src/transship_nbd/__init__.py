"""Transship's disks over NBD: :mod:`~transship_nbd.client` and :mod:`~transship_nbd.server`."""
