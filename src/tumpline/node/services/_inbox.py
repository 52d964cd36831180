"""The directory that received files appear in. Nothing appears before it is whole, nothing is written elsewhere, and no
symlink is followed: every name is opened below a descriptor of its directory."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from tumpline.errors import MalformedError, RefusedError, StateError

PARTIAL = ".partial"  # invisible: names with a leading dot are refused, so no sender reaches it
MAX_NAME_OCTETS = 240  # ext4 and most others have 255; " (9999)" must fit
MAX_CONFLICTS = 9999
_HASH_PIECE_OCTETS = 1 << 20
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


class OnConflict(Enum):
    """What to do when there is a file of the name already."""

    RENAME = "rename"
    REFUSE = "refuse"
    OVERWRITE = "overwrite"


def check_name(name: str) -> str:
    """The name, if a file of it may appear. Raises: MalformedError that says why not."""
    octets = name.encode("utf-8", "surrogatepass")
    if not name or name in (".", ".."):
        raise MalformedError("the file has no name")
    if len(octets) > MAX_NAME_OCTETS:
        raise MalformedError(f"the name is too long: {len(octets)} octets, not more than {MAX_NAME_OCTETS}")
    if "/" in name or "\\" in name:
        raise MalformedError(f"{name!r} is a path, not the name of a file")
    # Control and format characters (categories Cc, Cf: newlines, escapes, right-to-left overrides), surrogates, unassigned.
    if any(unicodedata.category(character)[0] == "C" for character in name):
        raise MalformedError(f"{name!r} has characters that do not show")
    if name[0] in ". -" or name[-1] in ". ":
        raise MalformedError(f"{name!r} begins or ends with a character that hides or harms")
    if name.partition(".")[0].rstrip().lower() in _RESERVED or set(name) & set('<>:"|?*'):
        raise MalformedError(f"{name!r} means something else on other systems")
    return name


def candidates(name: str, on_conflict: OnConflict) -> Iterator[str]:
    """The names to try, in order: "a.tar", "a (1).tar" ..."""
    yield name
    if on_conflict is OnConflict.RENAME:
        stem, extension = os.path.splitext(name)
        for number in range(1, MAX_CONFLICTS + 1):
            yield f"{stem} ({number}){extension}"


class Inbox:
    """An open directory, and its `.partial`. Raises OSError where the file system does; blocking: call it in threads."""

    def __init__(self, directory: Path) -> None:
        """Raises: StateError with the remedy."""
        flags = os.O_DIRECTORY | os.O_CLOEXEC
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._directory = os.open(directory, flags)
        except OSError as error:
            raise StateError(f"files cannot be received in {directory}: {error.strerror}") from error
        try:
            try:
                os.mkdir(PARTIAL, 0o700, dir_fd=self._directory)
            except FileExistsError:
                pass
            self._partial = os.open(PARTIAL, flags | os.O_NOFOLLOW, dir_fd=self._directory)
        except OSError as error:
            os.close(self._directory)
            raise StateError(f"files cannot be received in {directory}: {PARTIAL}: {error.strerror}") from error

    def close(self) -> None:
        os.close(self._partial)
        os.close(self._directory)

    # ---- partial files -----------------------------------------------------------------------------------------------

    def partials(self) -> list[str]:
        return os.listdir(self._partial)

    def open(self, key: str) -> int:
        """A descriptor of a partial file, made if it is not there."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(key, flags, 0o666, dir_fd=self._partial)

    def remove(self, key: str) -> None:
        try:
            os.unlink(key, dir_fd=self._partial)
        except FileNotFoundError:
            pass

    def digest(self, key: str, size: int) -> bytes:
        """Cut the partial file to `size`, see it to the disk, and hash what is there."""
        found = hashlib.sha256()
        file = self.open(key)
        try:
            os.ftruncate(file, size)
            os.fsync(file)
            for offset in range(0, size, _HASH_PIECE_OCTETS):
                found.update(os.pread(file, min(_HASH_PIECE_OCTETS, size - offset), offset))
        finally:
            os.close(file)
        return found.digest()

    # ---- whole files -------------------------------------------------------------------------------------------------

    def free_name(self, name: str, on_conflict: OnConflict) -> str:
        """The name to give a file now. Raises: RefusedError if there is none."""
        if on_conflict is OnConflict.OVERWRITE:
            return name
        for candidate in candidates(name, on_conflict):
            if not self._exists(candidate):
                return candidate
        raise RefusedError(f"there is a file {name!r} already")

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def place(self, key: str, name: str, on_conflict: OnConflict) -> bool:
        """Let the partial file appear under its name; done again after a crash, it comes to the same. False if somebody
        took the name meanwhile."""
        try:
            if on_conflict is OnConflict.OVERWRITE:
                os.rename(key, name, src_dir_fd=self._partial, dst_dir_fd=self._directory)
            else:
                self._link(key, name)
        except FileExistsError:
            return False
        except IsADirectoryError as error:
            raise RefusedError(f"there is a directory {name!r}") from error
        except FileNotFoundError:
            return True  # it was placed before the crash; whoever waited for it may have taken it away since
        os.fsync(self._directory)
        return True

    def _link(self, key: str, name: str) -> None:
        try:
            os.link(key, name, src_dir_fd=self._partial, dst_dir_fd=self._directory, follow_symlinks=False)
        except FileExistsError:
            if not self._same(key, name):
                raise
        # Only now: between the two calls the file has both names, and a crash there is no loss.
        os.unlink(key, dir_fd=self._partial)

    def _same(self, key: str, name: str) -> bool:
        partial = os.stat(key, dir_fd=self._partial, follow_symlinks=False)
        whole = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        return os.path.samestat(partial, whole)
