# SPDX-License-Identifier: Apache-2.0
"""Hashing files for a manifest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from bench.measure import Timing, in_turns
from chopmark import artifacts

MEGABYTE = 1024 * 1024


def hash_file(folder: Path) -> Timing:
    """A manifest's entry of 64 MB, three digests in one pass, against the flat SHA-256 alone."""
    path = folder / "model.bin"
    path.write_bytes(os.urandom(64 * MEGABYTE))
    return in_turns(lambda: artifacts.hash_file(path), lambda: flat_digest(path), rounds=9)


def scan_folder(folder: Path) -> Timing:
    """The manifest of 1,000 files of 4 KiB, against reading and hashing them in a loop."""
    for number in range(1000):
        place = folder / f"{number % 10}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.bin").write_bytes(os.urandom(4096))

    def bare() -> list[bytes]:
        paths = sorted(Path(at, name) for at, _, names in os.walk(folder) for name in names)
        return [flat_digest(path) for path in paths]

    return in_turns(lambda: artifacts.scan(folder), bare)


def flat_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file as the standard library takes it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
