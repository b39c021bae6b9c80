# SPDX-License-Identifier: Apache-2.0
"""Release, status and channel file: their bytes, and what follows from them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import pytest

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.channel import (
    BUCKETS,
    Assignment,
    ChannelFile,
    Status,
    StatusEntry,
    bucket,
    channel_extension,
    decode_assignments,
    decode_entries,
    decode_release,
    decode_status,
    entries_json,
    envelope_target,
    fetch_path,
    manifest_target,
    package_target,
    release_statement,
    status_extension,
)
from chopmark.errors import DecodeError
from chopmark.statements import encode_statement
from simulators import NOW, SimChannel

CHANNEL = SimChannel()
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
RELEASE = CHANNEL.approve(
    version="2.1-rc",
    counter=7,
    epoch=3,
    channels=("production", "lab"),
    fallbacks=(ONE, TWO),
    evidence=(ONE,),
    min_tier=2,
)
PAYLOAD = encode_statement(release_statement(RELEASE))
STATUS = Status(
    version=7,
    issued=NOW,
    revoked=(StatusEntry(kind="release", digest=ONE, reason="backdoor", since=NOW),),
    min_epoch={"digits": 1},
    holds=(StatusEntry(kind="manifest", digest=TWO, reason="looks odd", since=NOW),),
)


def test_a_release_round_trips_and_its_hash_is_that_of_the_payload():
    assert decode_release(PAYLOAD) == RELEASE
    assert RELEASE.digest == Digest.of(PAYLOAD)
    library = replace(RELEASE, runtime=replace(RELEASE.runtime, libraries={"b.so": ONE, "a.so": TWO}))
    data = encode_statement(release_statement(library))
    assert decode_release(data) == replace(library, digest=Digest.of(data))


def test_the_payload_is_the_one_of_the_protocol():
    members = json.loads(PAYLOAD)
    assert set(members) == {"_type", "subject", "predicateType", "predicate"}
    assert members["subject"] == [{"name": "model/digits", "digest": {"sha256": RELEASE.manifest.hex}}]
    assert set(members["predicate"]) == {
        "v", "workspace", "model", "version", "channels", "counter", "epoch", "manifest", "sealed", "fallbacks",
        "runtime", "abi", "min_app", "min_tier", "check_class", "self_test", "vsa", "evidence",
    }  # fmt: skip
    assert members["predicate"]["sealed"] is None
    assert canonical.encode(members) == PAYLOAD


@pytest.mark.parametrize(
    "change",
    [
        {"counter": 0},
        {"counter": True},
        {"epoch": 0},
        {"epoch": -1},
        {"min_tier": -1},
        {"manifest": {"sha256": "0" * 64, "length": 1}},
        {"manifest": {"sha256": str(ONE), "length": 1}},
        {"manifest": {"sha256": RELEASE.manifest.hex, "length": 0}},
        {"model": "letters"},
        {"model": "x-digits"},
        {"channels": ["Production"]},
        {"channels": "production"},
        {"fallbacks": [ONE.hex]},
        {"sealed": {"algorithm": "none"}},
        {"runtime": {"name": "onnxruntime"}},
        {"self_test": None},
        {"v": 2},
        {"also": None},
    ],
)
def test_releases_are_read_strictly(change):
    members = json.loads(PAYLOAD)
    members["predicate"].update(change)
    with pytest.raises(DecodeError):
        decode_release(canonical.encode(members))


def test_a_release_is_of_one_package():
    members = json.loads(PAYLOAD)
    members["subject"] *= 2
    with pytest.raises(DecodeError):
        decode_release(canonical.encode(members))


# Status


def test_a_status_round_trips():
    assert decode_status(status_extension(STATUS), version=7) == STATUS
    assert decode_entries(entries_json(STATUS.holds)) == STATUS.holds


def test_what_a_status_revokes_and_holds():
    assert STATUS.revocation(replace(RELEASE, digest=ONE)) == STATUS.revoked[0]
    assert STATUS.revocation(replace(RELEASE, manifest=ONE)) is None
    assert STATUS.hold(replace(RELEASE, manifest=TWO)) == STATUS.holds[0]
    assert STATUS.hold(replace(RELEASE, digest=TWO)) is None
    assert STATUS.revocation(RELEASE) is STATUS.hold(RELEASE) is None


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"issued": "2026-11-22"},
        {"issued": 1},
        {"revoked": [{"reason": "", "since": "2026-11-22T10:00:00Z"}]},
        {"revoked": [{"reason": "", "since": "2026-11-22T10:00:00Z", "release": str(ONE), "manifest": str(ONE)}]},
        {"revoked": [{"since": "2026-11-22T10:00:00Z", "release": str(ONE)}]},
        {"revoked": [{"reason": "", "since": "today", "release": str(ONE)}]},
        {"revoked": [{"reason": "", "since": "2026-11-22T10:00:00Z", "release": ""}]},
        {"min_epoch": {"digits": -1}},
        {"min_epoch": {"digits": "1"}},
        {"holds": None},
        {"also": 1},
    ],
)
def test_statuses_are_read_strictly(change):
    with pytest.raises(DecodeError):
        decode_status({**status_extension(STATUS), **change}, version=7)
    with pytest.raises(DecodeError):
        decode_status(None, version=7)


# Channel file


def assignment(release, first=0, end=BUCKETS, **changes):
    return Assignment(
        **{"model": "digits", "runtime": "onnxruntime", "first": first, "end": end, "release": release, **changes}
    )


def file(*assignments):
    return ChannelFile(name="production", version=1, expires=NOW, assignments=assignments, files={})


def test_assignments_round_trip():
    given = (assignment(ONE, 0, 500), assignment(TWO))
    assert decode_assignments(channel_extension(given)) == given
    assert decode_assignments(channel_extension(())) == ()


@pytest.mark.parametrize("buckets", [[0, 0], [1, 0], [-1, 5], [0, 10_001], [0], [0, 1, 2], [0, True], None])
def test_bucket_ranges_are_in_order(buckets):
    extension = channel_extension((assignment(ONE),))
    extension["assign"][0]["buckets"] = buckets
    with pytest.raises(DecodeError):
        decode_assignments(extension)


def test_a_bucket_is_computed_as_the_protocol_says():
    data = b"chopmark-bucket-v1\0" + b"device-1" + b"\0" + ONE.value
    assert bucket("device-1", ONE) == int(hashlib.sha256(data).hexdigest()[:16], 16) % 10_000


def test_buckets_are_even_and_differ_by_release():
    counts = Counter(bucket(f"device-{n}", ONE) // 1000 for n in range(5000))
    assert len(counts) == 10
    assert all(400 < count < 600 for count in counts.values())
    assert [bucket(f"device-{n}", ONE) for n in range(9)] != [bucket(f"device-{n}", TWO) for n in range(9)]


def test_a_rollout_grows_and_keeps_who_is_in():
    devices = [f"device-{n}" for n in range(300)]
    inside: set[str] = set()
    for end in (100, 1000, 5000, 10_000):
        now = {
            d
            for d in devices
            if file(assignment(TWO, 0, end), assignment(ONE)).assigned(model="digits", runtime="onnxruntime", device=d)
            == TWO
        }
        assert inside <= now
        inside = now
    assert inside == set(devices)


def test_the_first_range_that_holds_the_device_decides():
    chosen = file(assignment(ONE), assignment(TWO))
    assert chosen.assigned(model="digits", runtime="onnxruntime", device="d") == ONE
    assert chosen.assigned(model="letters", runtime="onnxruntime", device="d") is None
    assert chosen.assigned(model="digits", runtime="tflite", device="d") is None
    place = bucket("d", ONE)
    assert file(assignment(ONE, place, place + 1)).assigned(model="digits", runtime="onnxruntime", device="d") == ONE
    if place:
        assert file(assignment(ONE, 0, place)).assigned(model="digits", runtime="onnxruntime", device="d") is None


def test_where_things_are():
    assert envelope_target("production", ONE) == f"production/envelopes/{ONE.hex}.json"
    assert manifest_target("production", ONE) == f"production/manifests/{ONE.hex}.json"
    target = package_target("production", ONE, "a/b.txt")
    assert fetch_path(target, TWO) == f"targets/production/packages/{ONE.hex}/a/{TWO.hex}.b.txt"
