# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from chopmark import canonical
from chopmark.adapters.kms import file as kms
from chopmark.artifacts import Digest
from chopmark.channel import LogHead, Status, StatusEntry, Top
from chopmark.device import (
    Chain,
    Config,
    FileVersion,
    Slot,
    Slots,
    State,
    TimeFloor,
    decode_config,
    decode_state,
    encode_config,
    encode_state,
    state_key,
)
from chopmark.errors import DecodeError, UsageError
from chopmark.keys import Algorithm
from simulators.trust import NOW

KEY = b"k" * 32
ONE, TWO = Digest.of(b"1"), Digest.of(b"2")
STATE = State(
    gen=12,
    root=FileVersion(version=1, digest=ONE),
    trust=FileVersion(version=1, digest=TWO),
    reset=0,
    versions={"timestamp": 9, "snapshot": 7, "targets": 1, "production": 3, "status": 7},
    logs={"log.acme/m": LogHead(31, b"r" * 32)},
    status=Status(
        version=7,
        issued=NOW,
        revoked=(StatusEntry(kind="release", digest=ONE, reason="backdoor", since=NOW),),
        min_epoch={"digits": 1},
        holds=(),
    ),
    assigned={"digits": TWO},
    top={"digits": Top(counter=2, release=TWO, fallbacks=(ONE,))},
    slots={"digits": Slots(active=Slot.A, releases={Slot.A: TWO})},
    floor=TimeFloor(moment=NOW, boot_id="boot", boot_s=812),
    chain=Chain(seq=4, head=ONE, nonce="c4", said={"load/digits": "verified"}),
)
CONFIG = Config(
    workspace="acme",
    device="phone-1",
    name="phone",
    channel="production",
    models=("digits", "other"),
    channel_url="https://channel.example/é",
    fleet_url="",
    pin=ONE,
    key=TWO.hex,
)


def test_a_state_comes_back_as_it_was():
    assert decode_state(encode_state(STATE, KEY), KEY) == STATE
    first = State(gen=0, root=FileVersion(version=1, digest=ONE))
    assert decode_state(encode_state(first, KEY), KEY) == first


@pytest.mark.parametrize("at", range(0, 900, 37))
def test_every_flipped_byte_is_refused(at):
    data = bytearray(encode_state(STATE, KEY))
    data[at] ^= 1
    with pytest.raises(DecodeError):
        decode_state(bytes(data), KEY)


def test_another_spelling_of_the_same_state_is_refused():
    data = encode_state(STATE, KEY)
    for other in (data + b"\n", data.replace(b'"gen":12', b'"gen": 12'), data.replace(b'"v":1}', b'"v":1,"x-n":1}')):
        with pytest.raises(DecodeError):
            decode_state(other, KEY)


def test_a_state_fits_one_device_only():
    signer = kms.generate(Algorithm.ED25519)
    keys = {
        state_key(b"s" * 32, replace(CONFIG, **change), signer.public)
        for change in ({}, {"workspace": "b"}, {"device": "b"}, {"channel": "b"}, {"pin": TWO})
    }
    keys.add(state_key(b"s" * 32, CONFIG, kms.generate(Algorithm.ED25519).public))
    keys.add(state_key(b"t" * 32, CONFIG, signer.public))
    assert len(keys) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"gen": -1},
        {"v": 2},
        {"slots": {"digits": {"active": "A", "A": None, "B": str(ONE)}}},
        {"slots": {"digits": {"active": "C", "A": str(ONE), "B": None}}},
        {"more": 1},
        {"time": {"floor": "yesterday", "boot_id": "", "boot_s": 0}},
    ],
)
def test_a_state_that_cannot_be_is_refused_with_a_good_mac(change):
    import hmac

    value = canonical.decode(encode_state(STATE, KEY), what="state", max_bytes=100_000)
    assert isinstance(value, dict)
    body = {**value["state"], **change}
    mac = hmac.digest(KEY, b"chopmark-device-state-v1\0" + canonical.encode(body), "sha256")
    with pytest.raises(DecodeError):
        decode_state(canonical.encode({"v": 1, "state": body, "mac": canonical.encode_base64(mac)}), KEY)


def test_a_configuration_comes_back_as_it_was():
    assert decode_config(encode_config(CONFIG)) == CONFIG


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"acme"', '"../acme"'),
        ("v = 1", "v = 2"),
        ("poll_s = 300", "poll_s = 0"),
        ('["digits", "other"]', '["digits", "digits"]'),
        ("v = 1", "v = 1\nextra = 1"),
        ("sha256:", "md5:"),
        ("v = 1", "v ="),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(old, new):
    data = encode_config(CONFIG).replace(old.encode(), new.encode())
    with pytest.raises(UsageError):
        decode_config(data)
