# SPDX-License-Identifier: Apache-2.0
"""ModelRelease and Channel files <-> types, strictly.

A ModelRelease file is the only thing that people edit, and it says everything: the payload that approvers sign is
generated from it and from the name of the workspace, byte for byte the same on every machine.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, Literal

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.channel import BUCKETS, RESERVED_CHANNELS, Release, RuntimeNeed, decode_release, release_statement
from chopmark.documents import read_document_as, write_document
from chopmark.errors import DecodeError, UsageError
from chopmark.release.model import Channel, ModelRelease, Ring
from chopmark.statements import encode_statement

_VERSION: Final = re.compile(r"(?!.*(\.\.|\.lock$|\.$))[0-9A-Za-z][0-9A-Za-z._+-]{0,62}")


class _Metadata(canonical.Strict, frozen=True, kw_only=True):
    name: str


class _Package(canonical.Strict, frozen=True, kw_only=True):
    name: str
    range: str
    libraries: dict[str, str]


class _Spec(canonical.Strict, frozen=True, kw_only=True):
    version: str
    manifest: str
    manifest_length: int
    channels: list[str]
    policy: str
    counter: int
    epoch: int
    fallbacks: list[str]
    runtime: _Package
    abi: str
    min_app: str
    min_tier: int
    check_class: str
    self_test: str
    vsa: str
    evidence: list[str]


class _ModelRelease(canonical.Strict, frozen=True, kw_only=True):
    kind: Literal["ModelRelease"]
    metadata: _Metadata
    spec: _Spec


class _Ring(canonical.Strict, frozen=True, kw_only=True):
    model: str
    buckets: tuple[int, int] = (0, BUCKETS)
    release: str | None = None


class _ChannelSpec(canonical.Strict, frozen=True, kw_only=True):
    rings: list[_Ring]


class _Channel(canonical.Strict, frozen=True, kw_only=True):
    kind: Literal["Channel"]
    metadata: _Metadata
    spec: _ChannelSpec


def model_release(release: Release, *, policy: str) -> ModelRelease:
    """Return *release* as a file would describe it; its digest is computed here, whatever it said.

    Raises:
        DecodeError: a value that no release can have.
    """
    if not _VERSION.fullmatch(release.version):
        raise DecodeError(f"ModelRelease: {release.version[:80]!r} is not a version", hint='e.g. "2" or "1.10.0-rc1"')
    if not release.channels or len(set(release.channels)) != len(release.channels):
        raise DecodeError("ModelRelease: names no channel, or one twice")
    payload = encode_statement(release_statement(release))
    return ModelRelease(policy=policy, release=decode_release(payload), payload=payload)


def encode_model_release(model: ModelRelease) -> bytes:
    """Return the ModelRelease file for *model*."""
    release = model.release
    spec = {
        "version": release.version,
        "manifest": str(release.manifest),
        "manifest_length": release.manifest_length,
        "channels": list(release.channels),
        "policy": model.policy,
        "counter": release.counter,
        "epoch": release.epoch,
        "fallbacks": [str(digest) for digest in release.fallbacks],
        "runtime": {
            "name": release.runtime.name,
            "range": release.runtime.range,
            "libraries": {name: str(digest) for name, digest in sorted(release.runtime.libraries.items())},
        },
        "abi": release.abi,
        "min_app": release.min_app,
        "min_tier": release.min_tier,
        "check_class": release.check_class,
        "self_test": str(release.self_test),
        "vsa": str(release.vsa),
        "evidence": [str(digest) for digest in release.evidence],
    }
    return write_document(
        {"kind": "ModelRelease", "metadata": {"name": release.model}, "spec": spec},
        comment="The approvers sign what this file says: change a value, and they have to sign again.",
    )


def decode_model_release(data: bytes, *, workspace: str) -> ModelRelease:
    """Read a ModelRelease file of *workspace* and generate its payload.

    Raises:
        DecodeError: not such a file.
    """
    wire = read_document_as(data, _ModelRelease, what="ModelRelease")
    spec = wire.spec
    manifest = Digest.parse(spec.manifest)
    release = Release(
        digest=manifest,  # no part of the payload; model_release puts the right one in its place
        workspace=workspace,
        model=wire.metadata.name,
        version=spec.version,
        channels=tuple(spec.channels),
        counter=spec.counter,
        epoch=spec.epoch,
        manifest=manifest,
        manifest_length=spec.manifest_length,
        fallbacks=tuple(Digest.parse(text) for text in spec.fallbacks),
        runtime=RuntimeNeed(
            name=spec.runtime.name,
            range=spec.runtime.range,
            libraries={name: Digest.parse(text) for name, text in spec.runtime.libraries.items()},
        ),
        abi=spec.abi,
        min_app=spec.min_app,
        min_tier=spec.min_tier,
        check_class=spec.check_class,
        self_test=Digest.parse(spec.self_test),
        vsa=Digest.parse(spec.vsa),
        evidence=tuple(Digest.parse(text) for text in spec.evidence),
    )
    return model_release(release, policy=_name(spec.policy))


def encode_channel(channel: Channel) -> bytes:
    """Return the Channel file for *channel*."""
    rings = [
        {"model": r.model, "buckets": [r.first, r.end], **({"release": str(r.release)} if r.release else {})}
        for r in channel.rings
    ]
    return write_document(
        {"kind": "Channel", "metadata": {"name": channel.name}, "spec": {"rings": rings}},
        comment="A model of which no ring speaks runs its current release, if that names this channel.",
    )


def decode_channel(data: bytes) -> Channel:
    """Read a Channel file.

    Raises:
        DecodeError: not such a file, or a name that a role of the channel has.
    """
    wire = read_document_as(data, _Channel, what="Channel")
    name = _name(wire.metadata.name)
    if name in RESERVED_CHANNELS:
        raise DecodeError(f"Channel: {name} is the name of a role", hint="choose another name")
    if any(not 0 <= ring.buckets[0] < ring.buckets[1] <= BUCKETS for ring in wire.spec.rings):
        raise DecodeError(f"Channel: a ring's buckets are out of order; 0 <= first < end <= {BUCKETS:,}")
    return Channel(
        name=name,
        rings=tuple(
            Ring(
                model=_name(ring.model),
                first=ring.buckets[0],
                end=ring.buckets[1],
                release=Digest.parse(ring.release) if ring.release is not None else None,
            )
            for ring in wire.spec.rings
        ),
    )


def empty_channel(name: str) -> bytes:
    """Return the file of a channel without rings."""
    return encode_channel(Channel(name=name))


def with_evidence(release: Release, *, vsa: Digest, evidence: tuple[Digest, ...]) -> Release:
    """Return *release* naming the decision and the statements behind it."""
    return replace(release, vsa=vsa, evidence=evidence)


def _name(text: str) -> str:
    try:
        return canonical.check_name(text, what="release repository")
    except UsageError as error:
        raise DecodeError(error.message, hint=error.hint) from error
