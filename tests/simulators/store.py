# SPDX-License-Identifier: Apache-2.0
"""A channel's files in memory."""

from __future__ import annotations

import threading

from chopmark.channel.ports import ChannelStore


class MemoryChannel(ChannelStore):
    """The port's guarantees, for as long as the process lives.

    Attributes:
        files: path -> bytes.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def _get(self, path: str) -> bytes | None:
        return self.files.get(path)

    def _put_new(self, path: str, data: bytes) -> bool:
        with self._lock:
            return self.files.setdefault(path, data) == data

    def _replace(self, path: str, data: bytes) -> None:
        with self._lock:
            self.files[path] = data

    def _swap(self, path: str, old: bytes | None, new: bytes) -> bool:
        with self._lock:
            if self.files.get(path) != old:
                return False
            self.files[path] = new
            return True
