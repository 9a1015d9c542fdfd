"""One dialogue over QMP, played to QEMU and to Transship, and what may differ between the two.

Data: each `*.toml` beside this file is a dialogue, `differences.toml` says where Transship answers
otherwise and why. `script` reads them, `player` plays and compares.
"""
