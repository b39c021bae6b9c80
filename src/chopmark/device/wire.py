# SPDX-License-Identifier: Apache-2.0
"""State and configuration <-> bytes, strictly.

``state.json`` is RFC 8785 ``{"v":1,"state":{…},"mac":…}``. The MAC is looked at before anything else is believed; its
key also binds who the device is (workspace, id, channel, pin, public key), so that a state never fits another device.
``settings`` binds every other byte of what enrolment wrote: whoever changes the application's version or an address in
``device.toml`` is refused as ``state-corrupt``, and reported, until one refresh has looked at everything again. It shows
the change and does not prevent it: somebody who can write all files of a device can enrol it again as well.
"""

from __future__ import annotations

import hmac
import json
import tomllib

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.channel import LogHead, Status, Top, decode_entries, entries_json
from chopmark.clock import format_time, parse_time
from chopmark.device.model import Chain, Config, FileVersion, Slot, Slots, State
from chopmark.device.timefloor import TimeFloor
from chopmark.errors import ChopmarkError, DecodeError, UsageError
from chopmark.keys import PublicKey

MAX_STATE_BYTES = 4 * 1024 * 1024
MAX_CONFIG_BYTES = 64 * 1024
MIN_POLL_S, MAX_POLL_S = 1, 7 * 24 * 3600
_LABEL = b"chopmark-device-state-v1\0"


class _File(canonical.Strict, frozen=True, kw_only=True):
    version: int
    sha256: str


class _Log(canonical.Strict, frozen=True, kw_only=True):
    size: int
    root: str


class _Status(canonical.Strict, frozen=True, kw_only=True):
    issued: str
    revoked: list[dict[str, str]]
    min_epoch: dict[str, int]


class _Top(canonical.Strict, frozen=True, kw_only=True):
    counter: int
    release: str
    fallbacks: list[str]


class _Slots(canonical.Strict, frozen=True, kw_only=True):
    active: Slot
    A: str | None
    B: str | None


class _Time(canonical.Strict, frozen=True, kw_only=True):
    floor: str
    boot_id: str
    boot_s: int


class _Chain(canonical.Strict, frozen=True, kw_only=True):
    seq: int
    head: str | None
    nonce: str
    said: dict[str, str]


class _State(canonical.Strict, frozen=True, kw_only=True):
    v: int
    gen: int
    root: _File
    trust: _File | None
    reset: int
    versions: dict[str, int]
    logs: dict[str, _Log]
    status: _Status | None
    assigned: dict[str, str]
    top: dict[str, _Top]
    slots: dict[str, _Slots]
    time: _Time | None
    report: _Chain
    settings: str | None


class _Config(canonical.Strict, frozen=True, kw_only=True):
    v: int
    workspace: str
    device: str
    name: str
    channel: str
    models: list[str]
    channel_url: str
    fleet_url: str
    pin: str
    key: str
    runtime: str
    app: str
    poll_s: int


def state_key(secret: bytes, config: Config, key: PublicKey) -> bytes:
    """Return the key of the state's MAC: derived from the device's secret, for this device only."""
    names = (config.workspace, config.device, config.channel, str(config.pin), key.keyid)
    info = _LABEL + b"\0".join(name.encode() for name in names)
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)


def settings_digest(config: bytes, key_file: bytes) -> Digest:
    """Return what a state remembers of ``device.toml`` and ``key.pem``: that both are, byte by byte, what they were."""
    return Digest.of(Digest.of(config).value + Digest.of(key_file).value)


def encode_state(state: State, key: bytes) -> bytes:
    """Return the bytes of ``state.json``."""
    body = _state_json(state)
    return canonical.encode({"v": 1, "state": body, "mac": canonical.encode_base64(_mac(key, canonical.encode(body)))})


def decode_state(data: bytes, key: bytes) -> State:
    """Read ``state.json``.

    Raises:
        DecodeError: not canonical, another MAC, or not a state.
    """
    value = canonical.decode(data, what="state", max_bytes=MAX_STATE_BYTES)
    # In canonical form the bytes below "state" are exactly the ones the MAC was taken over.
    if not isinstance(value, dict) or value.keys() != {"v", "state", "mac"} or canonical.encode(value) != data:
        raise DecodeError("state: not a state file in canonical form")
    mac = value["mac"]
    found = canonical.decode_base64(mac, what="state: MAC") if isinstance(mac, str) else b""
    if not hmac.compare_digest(found, _mac(key, canonical.encode(value["state"]))):
        raise DecodeError("state: its MAC is not by this device's key")
    wire = canonical.convert(value["state"], _State, what="state")
    if (value["v"], wire.v) != (1, 1):
        raise DecodeError("state: a version that is not known here")
    return _state(wire)


def encode_config(config: Config) -> bytes:
    """Return the bytes of ``device.toml``.

    Raises:
        UsageError: a member that is no Unicode text.
    """
    members: dict[str, object] = {
        "v": 1,
        "workspace": config.workspace,
        "device": config.device,
        "name": config.name,
        "channel": config.channel,
        "models": list(config.models),
        "channel_url": config.channel_url,
        "fleet_url": config.fleet_url,
        "pin": str(config.pin),
        "key": config.key,
        "runtime": config.runtime,
        "app": config.app,
        "poll_s": config.poll_s,
    }
    # Strings, whole numbers and lists of strings are spelt alike in JSON and TOML, but for U+007F.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in members.items()]
    try:
        return "".join(lines).replace("\x7f", "\\u007f").encode()
    except UnicodeEncodeError as error:
        raise UsageError("device.toml: an address or a version that is no text") from error


def decode_config(data: bytes) -> Config:
    """Read ``device.toml``.

    Raises:
        UsageError: not such a file, or a name or number that cannot be.
    """
    try:
        if len(data) > MAX_CONFIG_BYTES:
            raise ValueError
        wire = msgspec.convert(tomllib.loads(data.decode("utf-8")), _Config, strict=True)
        pin = Digest.parse(wire.pin)
        key = Digest.from_hex(wire.key).hex
    except (ValueError, RecursionError, msgspec.ValidationError, ChopmarkError) as error:
        raise UsageError(f"device.toml: cannot be read ({error})"[:300], hint="enrol the device again") from error
    for name in (wire.workspace, wire.device, wire.channel, wire.runtime, *wire.models):
        canonical.check_name(name, what="device.toml")
    if wire.v != 1 or not MIN_POLL_S <= wire.poll_s <= MAX_POLL_S or len(set(wire.models)) != len(wire.models):
        raise UsageError("device.toml: an unknown version, a poll interval out of range, or a model twice")
    return Config(
        workspace=wire.workspace,
        device=wire.device,
        name=wire.name,
        channel=wire.channel,
        models=tuple(wire.models),
        channel_url=wire.channel_url,
        fleet_url=wire.fleet_url,
        pin=pin,
        key=key,
        runtime=wire.runtime,
        app=wire.app,
        poll_s=wire.poll_s,
    )


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _LABEL + body, "sha256")


def _state_json(state: State) -> dict[str, object]:
    status, floor, chain = state.status, state.floor, state.chain
    return {
        "v": 1,
        "gen": state.gen,
        "root": _file_json(state.root),
        "trust": None if state.trust is None else _file_json(state.trust),
        "reset": state.reset,
        "versions": dict(state.versions),
        "logs": {o: {"size": h.size, "root": canonical.encode_base64(h.root)} for o, h in state.logs.items()},
        "status": None
        if status is None
        else {
            "issued": format_time(status.issued),
            "revoked": entries_json(status.revoked),
            "min_epoch": dict(status.min_epoch),
        },
        "assigned": {model: str(digest) for model, digest in state.assigned.items()},
        "top": {
            model: {"counter": t.counter, "release": str(t.release), "fallbacks": [str(d) for d in t.fallbacks]}
            for model, t in state.top.items()
        },
        "slots": {
            model: {"active": str(s.active), **{str(slot): _optional(s.releases.get(slot)) for slot in Slot}}
            for model, s in state.slots.items()
        },
        "time": None
        if floor is None
        else {"floor": format_time(floor.moment), "boot_id": floor.boot_id, "boot_s": floor.boot_s},
        "report": {"seq": chain.seq, "head": _optional(chain.head), "nonce": chain.nonce, "said": dict(chain.said)},
        "settings": _optional(state.settings),
    }


def _file_json(file: FileVersion) -> dict[str, object]:
    return {"version": file.version, "sha256": file.digest.hex}


def _state(wire: _State) -> State:
    numbers = [
        wire.gen,
        wire.reset,
        wire.report.seq,
        *wire.versions.values(),
        *(log.size for log in wire.logs.values()),
    ]
    if min(numbers) < 0:
        raise DecodeError("state: a number below zero")
    return State(
        gen=wire.gen,
        root=_file(wire.root),
        trust=None if wire.trust is None else _file(wire.trust),
        reset=wire.reset,
        versions=wire.versions,
        logs={
            origin: LogHead(log.size, canonical.decode_base64(log.root, what="state: ledger root"))
            for origin, log in wire.logs.items()
        },
        status=None if wire.status is None else _status(wire.status, version=wire.versions.get("status", 0)),
        assigned={model: Digest.parse(text) for model, text in wire.assigned.items()},
        top={
            model: Top(
                counter=t.counter,
                release=Digest.parse(t.release),
                fallbacks=tuple(Digest.parse(text) for text in t.fallbacks),
            )
            for model, t in wire.top.items()
        },
        slots={model: _slots(slots) for model, slots in wire.slots.items()},
        floor=None
        if wire.time is None
        else TimeFloor(
            moment=parse_time(wire.time.floor, what="state"), boot_id=wire.time.boot_id, boot_s=wire.time.boot_s
        ),
        chain=Chain(
            seq=wire.report.seq,
            head=None if wire.report.head is None else Digest.parse(wire.report.head),
            nonce=wire.report.nonce,
            said=wire.report.said,
        ),
        settings=None if wire.settings is None else Digest.parse(wire.settings),
    )


def _file(wire: _File) -> FileVersion:
    return FileVersion(version=wire.version, digest=Digest.from_hex(wire.sha256))


def _status(wire: _Status, *, version: int) -> Status:
    return Status(
        version=version,
        issued=parse_time(wire.issued, what="state"),
        revoked=decode_entries(wire.revoked),
        min_epoch=wire.min_epoch,
    )


def _slots(wire: _Slots) -> Slots:
    texts = {Slot.A: wire.A, Slot.B: wire.B}
    releases = {slot: Digest.parse(text) for slot, text in texts.items() if text is not None}
    if wire.active not in releases:
        raise DecodeError("state: the active slot is empty")
    return Slots(active=wire.active, releases=releases)


def _optional(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)
