# SPDX-License-Identifier: Apache-2.0
"""Hashing files for a manifest."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.measure import Timing, Unavailable, in_turns
from chopmark import artifacts

MEGABYTE: Final = 1024 * 1024
LARGE_BYTES: Final = 512 * MEGABYTE
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where there is room: what is timed is hashing, and no disk


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


def flat_large(folder: Path) -> Timing:
    """Name, length and SHA-256 of one file of 512 MB, against the standard library on it."""
    path = large_file(folder)
    return in_turns(lambda: artifacts.digests(path), lambda: flat_digest(path), rounds=7, clock=time.perf_counter)


def flat_small(folder: Path) -> Timing:
    """The same of 5,000 files of 10 KB, against a loop over them on one core."""
    for number in range(5000):
        place = folder / f"{number % 10}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.bin").write_bytes(os.urandom(10_000))

    def bare() -> list[bytes]:
        paths = sorted(Path(at, name) for at, _, names in os.walk(folder) for name in names)
        return [flat_digest(path) for path in paths]

    return in_turns(lambda: artifacts.digests(folder), bare, rounds=7, clock=time.perf_counter)


def tree_verify(folder: Path) -> Timing:
    """All blocks of 512 MB against a manifest, on all cores, against SHA-256 of the file on one."""
    path = large_file(folder)
    entry = artifacts.hash_file(path)
    return in_turns(
        lambda: artifacts.verify_tree(path, entry), lambda: flat_digest(path), rounds=9, clock=time.perf_counter
    )


def touched(folder: Path) -> Timing:
    """Leaves, and 5 % of the blocks of 512 MB, here and there, against all of it, by SHA-256 on one core."""
    path = large_file(folder)
    entry = artifacts.manifest_of(path, leaves=folder / "leaves").files[0]
    leaves = artifacts.read_leaves(folder / "leaves", entry)
    block = artifacts.LEAF_BLOCK_BYTES
    blocks = sorted(random.Random(5).sample(range(LARGE_BYTES // block), LARGE_BYTES // block // 20))
    ranges = [range(number * block, (number + 1) * block) for number in blocks]

    def ours() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for _ in artifacts.verify_blocks(descriptor, entry, leaves, ranges):
                pass
        finally:
            os.close(descriptor)

    return in_turns(ours, lambda: flat_digest(path), rounds=9)


def in_memory(run: Callable[[Path], Timing]) -> Callable[[Path], Timing]:
    """Give *run* a folder in memory, and remove it."""

    def measure(_: Path) -> Timing:
        import shutil
        import tempfile

        if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < 2 * LARGE_BYTES:
            raise Unavailable(f"{MEMORY} has no {2 * LARGE_BYTES:,} bytes free")
        with tempfile.TemporaryDirectory(dir=MEMORY, prefix="chopmark-bench-") as folder:
            return run(Path(folder))

    return measure


def large_file(folder: Path) -> Path:
    """Return a file of 512 MB of random bytes."""
    path = folder / "model.bin"
    with path.open("wb") as file:
        for _ in range(LARGE_BYTES // (64 * MEGABYTE)):
            file.write(os.urandom(64 * MEGABYTE))
    return path


def flat_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file as the standard library takes it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
