# SPDX-License-Identifier: Apache-2.0
"""Enrolment: a key, a pin, an id. Nothing is trusted on first use: the root must have the digest that was given.

The private key is made on the device and never leaves it. An enrolment that was interrupted is run again: the key that
is there is used again, and the service gives the same id for it. A device that is enrolled is not enrolled again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chopmark.artifacts import Digest, read_file, write_file
from chopmark.canonical import check_name
from chopmark.channel import RESERVED_CHANNELS
from chopmark.device import tidy
from chopmark.device.folder import Folder
from chopmark.device.model import Chain, Config, FileVersion, State
from chopmark.device.opened import SECRET_BYTES, key_file
from chopmark.device.ports import Counter, FleetClient
from chopmark.device.store import StateStore
from chopmark.device.wire import decode_config, encode_config, settings_digest, state_key
from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.keys import Signer
from chopmark.telemetry import EnrolmentRequest
from chopmark.trust import pinned_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What a device is told.

    Attributes:
        root: a root of the workspace, as bytes; *pin* is its digest, from somebody whom the device's owner trusts.
        token: what the service asks of new devices.
    """

    name: str
    root: bytes
    pin: Digest
    channel: str
    models: tuple[str, ...]
    channel_url: str
    fleet_url: str
    token: str
    runtime: str = "onnxruntime"
    app: str = "0"
    poll_s: int = 300


def enroll(
    path: Path,
    wish: Enrolment,
    *,
    fleet: FleetClient | None,
    make_signer: Callable[[Path], Signer],
    counter: Counter,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Config:
    """Make the device's folder.

    Args:
        fleet: the service that gives the id; without one the device is called as *wish* says and reports to nobody.
        make_signer: opens the key in a file, or makes one there.

    Raises:
        UsageError: a device is enrolled there already, or a name that cannot be.
        Refused: ``root-untrusted``: the root is not the pinned one.
        UndecidedError: the service cannot be reached.
        VerificationError: it does not accept the token.
    """
    folder = Folder(path)
    if not tidy.is_missing(folder.config):
        raise UsageError(f"{path}: a device is enrolled here already", hint="choose another folder")
    for name in (wish.name, wish.channel, wish.runtime, *wish.models):
        check_name(name, what="enrolment")
    if wish.channel in RESERVED_CHANNELS or not wish.models:
        raise UsageError("enrolment: no model, or a channel with a reserved name")
    root = pinned_root(wish.root, wish.pin)
    fresh = [made for made in (folder.key, path) if tidy.is_missing(made)]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = make_signer(folder.key)
    device, nonce = wish.name, Chain().nonce
    if fleet is not None:
        try:
            given = fleet.enroll(EnrolmentRequest(token=wish.token, spki=signer.public.spki, name=wish.name))
        except VerificationError as error:
            if not isinstance(error, DecodeError):  # refused, so nobody knows this key: nothing is left behind
                for made in fresh:
                    tidy.remove(made)
            raise
        device, nonce = check_name(given.device, what="the service's id"), given.nonce
    config = Config(
        workspace=root.workspace,
        device=device,
        name=wish.name,
        channel=wish.channel,
        models=wish.models,
        channel_url=wish.channel_url,
        fleet_url=wish.fleet_url,
        pin=wish.pin,
        key=signer.public.keyid,
        runtime=wish.runtime,
        app=wish.app,
        poll_s=wish.poll_s,
    )
    data = encode_config(config)
    decode_config(data)  # what is written is what can be read
    write_file(folder.secret, entropy(SECRET_BYTES), mode=0o600)
    write_file(folder.pinned, wish.root)
    secret = read_file(folder.secret, max_bytes=SECRET_BYTES)
    settings = settings_digest(data, key_file(folder))
    store = StateStore(folder, key=state_key(secret, config, signer.public), settings=settings, counter=counter)
    first = State(
        gen=0,
        root=FileVersion(version=root.version, digest=root.digest),
        reset=root.reset,
        chain=Chain(nonce=nonce),
    )
    store.commit(lambda _: first, otherwise=first)
    # Last, since its presence is what says that a device is enrolled here.
    write_file(folder.config, data)
    return config
