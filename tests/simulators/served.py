# SPDX-License-Identifier: Apache-2.0
"""A simulated log as static files, served by somebody who may lie.

served = ServedLog(log)
served.log = log.fork(keep=2)              # another history under the same address
served.lies["tile/entries/000.p/3"] = None  # hide a file; bytes in its place alter it
served.down = True
"""

from __future__ import annotations

from chopmark.ledger import EMPTY_EDGE, bundle_path, integrate, tile_path
from chopmark.ledger.ports import LogFiles
from simulators.log import SimLog


class ServedLog(LogFiles):
    """See the module.

    Attributes:
        seen: where not None, the size up to which witnesses are asked: ``checkpoint`` is then ahead of them, and what they
            saw is served as ``witnessed-checkpoint``.
        lies: path -> other bytes, or None for none.
    """

    def __init__(self, log: SimLog) -> None:
        self.log = log
        self.seen: int | None = None
        self.lies: dict[str, bytes | None] = {}
        self.down = False
        self.asked: list[str] = []
        self._made: tuple[list[bytes], dict[str, bytes]] = ([], {})

    def _find(self, path: str, max_bytes: int) -> bytes | None:
        self.asked.append(path)
        if self.down:
            raise TimeoutError
        if path in self.lies:
            return self.lies[path]
        if path == "checkpoint":
            return self._checkpoint()
        if path == "witnessed-checkpoint":
            return None if self.seen is None else self.log.fork(keep=self.seen).signed()
        return self._files().get(path)

    def _checkpoint(self) -> bytes:
        if self.seen is None:
            return self.log.signed()
        away = [witness for witness in self.log.witnesses if not witness.away]
        for witness in away:
            witness.away = True
        try:
            return self.log.signed()
        finally:
            for witness in away:
                witness.away = False

    def _files(self) -> dict[str, bytes]:
        """Return every file, in every width that it ever had."""
        if self._made[0] == self.log.entries:
            return self._made[1]
        grown = integrate(EMPTY_EDGE, self.log.entries)
        found: dict[str, bytes] = {}
        for tile in grown.tiles:
            for width in range(1, len(tile.hashes) + 1):
                found[tile_path(tile.level, tile.index, width)] = b"".join(tile.hashes[:width])
        for bundle in grown.bundles:
            for width in range(1, len(bundle.entries) + 1):
                part = type(bundle)(index=bundle.index, entries=bundle.entries[:width])
                found[bundle_path(bundle.index, width)] = part.encode()
        self._made = (list(self.log.entries), found)
        return found
