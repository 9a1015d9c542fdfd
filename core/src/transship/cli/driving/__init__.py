"""The bodies of the verbs that drive a migration over QMP, of a QEMU or of a guest of ours."""
