# SPDX-License-Identifier: Apache-2.0
"""Linux memory files, sealed: no write, no change of length, no new mapping that writes, for anybody.

The file is copied, then sealed, then hashed: only in this order are the hashed bytes certainly the ones that are read
later. Other systems have nothing like it, and say so.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sys

from chopmark.device import Sealed, SealedMemory
from chopmark.errors import UndecidedError

_CHUNK_BYTES = 1024 * 1024
_NAME_BYTES = 200
"""The kernel takes 249."""


class SealedFile(Sealed):
    """One sealed memory file."""

    def __init__(self, fd: int, length: int) -> None:
        self.fd = fd
        self.length = length

    def read(self) -> bytes:
        return b"".join(os.pread(self.fd, _CHUNK_BYTES, at) for at in range(0, self.length, _CHUNK_BYTES))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class MemfdMemory(SealedMemory):
    """Sealed memory of this process."""

    def _copy(self, name: str, source: int, max_bytes: int) -> tuple[Sealed, bytes]:
        if sys.platform != "linux":
            raise UndecidedError(
                "this system has no memory that can be sealed",
                code="no-sealed-memory",
                hint="load models on Linux, or give the device another adapter for sealed memory",
            )
        label = name.rpartition("/")[2].encode()[:_NAME_BYTES].decode(errors="ignore")
        fd = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            _fill(fd, source, max_bytes + 1)
            _seal(fd)
            # Not what was copied: until it was sealed, other processes of this user could write and lengthen it.
            length = os.fstat(fd).st_size
            return SealedFile(fd, length), _sha256(fd, length)
        except BaseException:
            os.close(fd)
            raise


def _fill(fd: int, source: int, max_bytes: int) -> None:
    at = 0
    while at < max_bytes:
        # Within the kernel: the bytes never pass through this process before they are sealed.
        sent = os.sendfile(fd, source, at, min(_CHUNK_BYTES, max_bytes - at))
        if sent == 0:
            break
        at += sent


def _seal(fd: int) -> None:
    import fcntl  # noqa: PLC0415 - not everywhere, and reached on Linux only

    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & seals != seals:
        raise UndecidedError("the kernel did not seal the memory", code="no-sealed-memory")


def _sha256(fd: int, length: int) -> bytes:
    if length == 0:
        return hashlib.sha256().digest()
    # Sealed against shrinking and writing: the mapping can neither change nor vanish under the hash.
    with mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ) as view:
        return hashlib.sha256(view).digest()
