# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from chopmark.channel import RuntimeNeed
from chopmark.documents import read_document, write_document
from chopmark.errors import DecodeError
from chopmark.release import (
    Channel,
    Ring,
    decode_channel,
    decode_model_release,
    empty_channel,
    encode_channel,
    encode_model_release,
)
from chopmark.release.wire import model_release
from simulators import plain_release
from unit.release.kit import digest

RELEASE = plain_release(version="2", counter=2, evidence=(digest("e"),))


def test_a_file_regenerates_the_payload_byte_for_byte() -> None:
    need = RuntimeNeed(name="onnxruntime", range=">=1.20,<2", libraries={"b.so": digest("b"), "a.so": digest("a")})
    model = model_release(replace(RELEASE, runtime=need, fallbacks=(digest("f"),)), policy="default")
    data = encode_model_release(model)
    again = decode_model_release(data, workspace="acme")
    assert again == model
    assert encode_model_release(again) == data
    spaced = b"# reviewed\n" + data.replace(b"spec:", b"spec:   # all of it")
    assert decode_model_release(spaced, workspace="acme").payload == model.payload, "comments are not signed"


def test_another_workspace_is_another_payload() -> None:
    model = model_release(RELEASE, policy="default")
    other = decode_model_release(encode_model_release(model), workspace="other")
    assert other.release.digest != model.release.digest


def test_every_value_but_the_policys_name_is_signed() -> None:
    model = model_release(RELEASE, policy="default")
    document = read_document(encode_model_release(model), what="ModelRelease")
    spec = document["spec"]
    assert isinstance(spec, dict)
    other = str(digest("other"))
    changes = {
        **dict.fromkeys(("manifest", "self_test", "vsa"), other),
        **{name: [other] for name in ("fallbacks", "evidence")},
        **dict.fromkeys(("counter", "epoch", "manifest_length", "min_tier"), 7),
        **dict.fromkeys(("version", "abi", "min_app", "check_class"), "other"),
        "channels": ["beta"],
        "runtime": {"name": "onnxruntime", "range": ">=1.20,<2", "libraries": {"a.so": other}},
    }
    assert {*changes, "policy"} == set(spec)
    for name, value in changes.items():
        changed = write_document({**document, "spec": {**spec, name: value}})
        assert decode_model_release(changed, workspace="acme").release.digest != model.release.digest, name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('version: "2"', "version: 2"),
        ('version: "2"', "version: ../main"),
        ("kind: ModelRelease", "kind: Model"),
        ("counter: 2", "counter: 0"),
        ("counter: 2", "counter: true"),
        ("policy: default", "policy: ../default"),
        ("  - production", "  - production\n    - production"),
        ("  - production", "  - Production"),
        ("counter: 2", "counter: 2\n  counter: 3"),
        ("counter: 2", "counter: 2\n  more: 3"),
        ("sha256:", "sha512:"),
        ("name: digits", "name: &a digits"),
    ],
)
def test_a_model_release_is_read_strictly(old: str, new: str) -> None:
    text = encode_model_release(model_release(RELEASE, policy="default")).decode()
    assert old in text
    with pytest.raises(DecodeError):
        decode_model_release(text.replace(old, new).encode(), workspace="acme")


def test_channels() -> None:
    channel = Channel(name="beta", rings=(Ring(model="digits", first=0, end=500), Ring(model="a", release=digest("x"))))
    assert decode_channel(encode_channel(channel)) == channel
    assert decode_channel(empty_channel("production")) == Channel(name="production")
    for bad in ("targets", "status", "Beta", "x-a"):
        with pytest.raises(DecodeError):
            decode_channel(empty_channel(bad))
    for buckets in ((5, 5), (-1, 3), (0, 10_001)):
        ring = Ring(model="digits", first=buckets[0], end=buckets[1])
        with pytest.raises(DecodeError, match="buckets"):
            decode_channel(encode_channel(Channel(name="beta", rings=(ring,))))
