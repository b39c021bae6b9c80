# SPDX-License-Identifier: Apache-2.0
"""What the agent works with: the same parts as the library, and the network."""

from __future__ import annotations

from pathlib import Path

from chopmark.adapters.blobs.folder import FolderFetcher
from chopmark.adapters.counters.simulated import SimulatedCounter
from chopmark.adapters.counters.software import NoCounter
from chopmark.adapters.http.fetcher import HttpFetcher
from chopmark.adapters.http.fleet import HttpFleet
from chopmark.adapters.kms.file import create, load
from chopmark.adapters.memory.memfd import MemfdMemory
from chopmark.adapters.runtimes import open_runtime
from chopmark.channel import Fetcher
from chopmark.clock import SystemClock
from chopmark.device import Counter, Device, FleetClient, open_device
from chopmark.keys import Algorithm, Signer


def counter(simulated: Path | None = None) -> Counter:
    """Return the counter of this machine; none is known here but a simulated one in a file."""
    return NoCounter() if simulated is None else SimulatedCounter(simulated)


def wire(folder: Path, *, simulated_counter: Path | None = None) -> Device:
    """Open the device in *folder* with the adapters of this machine."""
    return open_device(
        folder,
        load_signer=load,
        clock=SystemClock(),
        memory=MemfdMemory(),
        counter=counter(simulated_counter),
        runtimes=open_runtime,
    )


def make_signer(path: Path) -> Signer:
    """Open the key in *path*, or make one: Ed25519, in software, tier T1."""
    return load(path) if path.exists() else create(path, Algorithm.ED25519)


def fetcher(url: str) -> Fetcher:
    """Return the channel at *url*; ``file:///folder`` is one that was carried here."""
    if url.startswith("file:///"):
        return FolderFetcher(Path(url.removeprefix("file://")))
    return HttpFetcher(url)


def fleet(url: str) -> FleetClient | None:
    """Return the service at *url*, or None where there is none."""
    return HttpFleet(url) if url else None
