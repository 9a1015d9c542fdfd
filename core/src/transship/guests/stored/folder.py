"""The folder of a checkpoint that is being made: it has its final name only when it is complete.

::

    .NAME.partial-XXXXXXXX      while it is filled; worthless unless prepared
        prepare()               everything is on the disk, and marked as unconfirmed
    NAME                        after confirm(): the source has given the guest up
    NAME.unconfirmed            after keep(): nobody knows whether the source has

All three lie in one folder, so going from one to the next is a single rename.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from transship.errors import BlockedError, CheckpointError
from transship.guests.stored.files import sync_folder, write_lasting
from transship.guests.stored.manifest import (
    DEVICE_FOLDER,
    DISK_FOLDER,
    RAM_FOLDER,
    UNCONFIRMED,
)

_WARNING = b"""\
Everything of this machine is here, but the sender's last word never came: it may still have the
machine, and run it. Only one of the two may. If the sender has lost it or has been stopped for
good, remove this file, and the folder is a checkpoint like any other.
"""


class PartialFolder:
    """A checkpoint folder on its way to its name.

    Args:
        target: The final name. It must not exist, or be an empty folder.

    Attributes:
        path: Where the folder is now.

    Raises:
        BlockedError: There is something already, or no folder can be made beside it.
    """

    def __init__(self, target: Path) -> None:
        self.target = Path(os.path.abspath(target))
        check_free(self.target)
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{self.target.name[:50]}.partial-"
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=self.target.parent))
            (self.path / RAM_FOLDER).mkdir()
            (self.path / DEVICE_FOLDER).mkdir()
        except OSError as error:
            raise BlockedError(
                f"no checkpoint can be made at {target}",
                expected=f"a folder {self.target.parent} that can be written",
                found=error.strerror or str(error),
            ) from error

    def check_still_free(self) -> None:
        """Refuse to go on where something has taken the place meanwhile.

        Raises:
            CheckpointError: Something has.
        """
        try:
            check_free(self.target)
        except BlockedError as error:
            raise CheckpointError(
                f"something took the place of the checkpoint meanwhile: {self.target}",
                expected=error.expected,
                found=error.found,
                hint="another receive into the same folder, perhaps",
            ) from error

    def mark_unconfirmed(self) -> None:
        """Say in the folder that the source may still have the guest.

        Raises:
            OSError: The disk is full, or broken.
        """
        write_lasting(self.path / UNCONFIRMED, _WARNING)
        sync_folder(self.path)

    def sync(self) -> None:
        """Have all names in the folder on the disk.

        Raises:
            OSError: The disk is broken.
        """
        for folder in (RAM_FOLDER, DEVICE_FOLDER, DISK_FOLDER, "."):
            if (self.path / folder).exists():
                sync_folder(self.path / folder)
        sync_folder(self.path.parent)

    def confirm(self) -> Path:
        """Take the mark away, and give the folder its final name.

        Raises:
            CheckpointError: It cannot have that name; then it is complete under the one it has.
        """
        try:
            (self.path / UNCONFIRMED).unlink(missing_ok=True)
            sync_folder(self.path)
            self._rename(self.target)
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint is complete at {self.path}, but cannot be called {self.target}",
                found=error.strerror or str(error),
                hint="rename it by hand",
            ) from error
        return self.path

    def keep(self) -> Path:
        """Make the folder visible under a name that says that it is unconfirmed.

        If even that fails, it stays where it is.
        """
        name = unused = f"{self.target.name}.unconfirmed"
        number = 1
        while (self.target.parent / unused).exists():
            number += 1
            unused = f"{name}-{number}"
        try:
            self._rename(self.target.parent / unused)
        except OSError:
            return self.path
        return self.path

    def remove(self) -> None:
        """Remove the folder and everything in it.

        Raises:
            CheckpointError: It cannot be removed.
        """
        try:
            shutil.rmtree(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CheckpointError(
                f"the unfinished checkpoint {self.path} cannot be removed",
                found=error.strerror or str(error),
            ) from error

    def _rename(self, path: Path) -> None:
        os.rename(self.path, path)
        self.path = path
        sync_folder(path.parent)


def check_free(target: Path) -> None:
    """Refuse a place where something is already.

    Raises:
        BlockedError: It is neither missing nor an empty folder.
    """
    try:
        if not os.path.lexists(target):
            return
        if target.is_symlink() or any(target.iterdir()):
            raise BlockedError(
                f"a checkpoint cannot be made at {target}",
                expected="a folder that is missing or empty",
                found="a link" if target.is_symlink() else "a folder with something in it",
            )
    except OSError as error:
        raise BlockedError(
            f"a checkpoint cannot be made at {target}",
            expected="a folder that is missing or empty",
            found=error.strerror or str(error),
        ) from error
