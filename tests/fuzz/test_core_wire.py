# SPDX-License-Identifier: Apache-2.0
"""Any bytes become an object, or an error of ours: artifacts, statements, trust, channel. And what we write we read.

Three kinds of bytes: any; what was valid and then damaged at a few places; and valid JSON of which one member was
replaced, the latter also signed again, so that it gets past the signatures.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, MetaFile

from chopmark import canonical
from chopmark.adapters.kms.file import generate
from chopmark.artifacts import Digest, FileEntry, Manifest, check_file_name, decode_manifest, hash_bytes
from chopmark.artifacts.selftest import decode_vectors
from chopmark.channel import (
    BUCKETS,
    Assignment,
    Release,
    RuntimeNeed,
    Status,
    StatusEntry,
    approved,
    channel_extension,
    decode_assignments,
    decode_entries,
    decode_release,
    decode_status,
    entries_json,
    follow,
    in_range,
    release_statement,
    status_extension,
)
from chopmark.clock import format_time, parse_time
from chopmark.errors import ChopmarkError, DecodeError, Refused
from chopmark.keys import Algorithm, PublicKey, read_public_key
from chopmark.statements import (
    Envelope,
    OmsKey,
    Signature,
    Statement,
    Subject,
    build_oms,
    decode_envelope,
    decode_leaf,
    decode_oms,
    decode_statement,
    encode_envelope,
    encode_statement,
    open_oms,
    publication_leaf,
    sign,
    statement_leaf,
    verify_oms,
)
from chopmark.statements.oms.certificates import OmsAuthorities
from chopmark.statements.oms.wire import decode_listing
from chopmark.trust import Limits, decode_trust, encode_trust, next_root, open_trust, pinned_root, sign_metadata
from simulators import NOW, SimChannel, follower, oms

# A world to start from

WORLD = SimChannel()
RELEASE = WORLD.approve()
WORLD.revoke(Digest.of(b"old"))
WORLD.publish(RELEASE)
TRUST = WORLD.trust
DEVICE = follower(WORLD)
assert DEVICE.refresh(NOW) == RELEASE
ROOT, POLICY = TRUST.root, TRUST.policy
FILES = {
    role: WORLD.store.files[WORLD.path(role)] for role in ("timestamp", "snapshot", "targets", "status", "production")
}
PROOF = WORLD.store.files[WORLD.proof_path]
STAMP = follow.timestamp(ROOT, FILES["timestamp"], last=0, now=NOW)
SNAP = follow.snapshot(ROOT, STAMP, FILES["snapshot"], last={}, channel="production", now=NOW)
DELEGATOR = follow.targets(ROOT, SNAP, FILES["targets"], now=NOW)
PACKAGER = generate(Algorithm.ECDSA_P256)
MANIFEST = Manifest(files=(hash_bytes("a/b", b"1"), hash_bytes("c", b"2")))
ENVELOPE = WORLD.shipments[RELEASE.digest].envelope
STATEMENT = sign(release_statement(RELEASE), TRUST.keys("owner-a"))


def meta(data):
    return MetaFile(1, len(data), {"sha256": Digest.of(data).hex})


def named(role, data):
    """The snapshot, if it named *data*."""
    version = SNAP.files[role].version
    return replace(SNAP, files={**SNAP.files, role: MetaFile(version, len(data), {"sha256": Digest.of(data).hex})})


def read_root(data):
    with contextlib.suppress(Refused):
        next_root(ROOT, data)
    return pinned_root(data, Digest.of(data))


def read_trust(data):
    trust = decode_trust(data)
    assert decode_trust(encode_trust(trust)) == trust
    open_trust(replace(ROOT, trust=replace(ROOT.trust, length=len(data), sha256=Digest.of(data))), data)
    follow.status(trust, DELEGATOR, SNAP, FILES["status"], last=None, now=NOW, latest=ROOT.expires)
    follow.logged(trust, SNAP, PROOF, seen={})
    approved(ENVELOPE, trust, channel="production")


def read_targets(data):
    delegator = follow.targets(ROOT, named("targets", data), data, now=NOW)
    with contextlib.suppress(Refused):
        follow.status(POLICY, delegator, SNAP, FILES["status"], last=None, now=NOW, latest=ROOT.expires)
    follow.channel_file(delegator, SNAP, FILES["production"], name="production", now=NOW)


def read_snapshot(data):
    stamp = follow.TimestampMeta(version=1, snapshot=meta(data))
    return follow.snapshot(ROOT, stamp, data, last={}, channel="production", now=NOW)


ROOT_OF_SIGNERS = oms.authority("root", oms.P384)
AUTHORITY = ROOT_OF_SIGNERS.public_bytes(Encoding.PEM)
LISTING = json.dumps(oms.statement({"a": b"1", "b/c": b"2"}), separators=(",", ":")).encode()
CHAINED = oms.bundle(
    oms.statement({"a": b"1"}),
    oms.P256,
    material=oms.chained(
        oms.certificate("x", oms.P256, issuer="root", issuer_key=oms.P384, extensions=[(oms.SIGNS, True)])
    ),
)


def read_signed_listing(data):
    """Whatever somebody signs: both readers of a listing say the same of it."""
    open_oms(oms.bundle(None, oms.P256, payload=data), OmsKey.read(oms.pem(oms.P256)))


def read_chain(data):
    open_oms(data, OmsAuthorities.read(AUTHORITY, now=oms.NOW))


READERS = {
    "manifest": (decode_manifest, MANIFEST.encode(), None),
    "self-test": (
        decode_vectors,
        b'{"cases":[{"expect":[981200,18800],"input":[0,16],"label":0}],"tolerance":9,"v":1}',
        None,
    ),
    "statement": (decode_statement, STATEMENT.payload, None),
    "release": (decode_release, STATEMENT.payload, None),
    "envelope": (decode_envelope, ENVELOPE, None),
    "approved": (lambda data: approved(data, POLICY, channel="production"), ENVELOPE, None),
    "leaf": (decode_leaf, statement_leaf(STATEMENT), None),
    "publication": (decode_leaf, publication_leaf(SNAP.digest), None),
    "oms envelope": (decode_oms, build_oms(MANIFEST, PACKAGER, name="x"), None),
    "oms": (lambda data: verify_oms(data, MANIFEST, PACKAGER.public), build_oms(MANIFEST, PACKAGER, name="x"), None),
    "oms listing": (decode_listing, LISTING, None),
    "oms signed listing": (read_signed_listing, LISTING, None),
    "oms 0.2": (decode_listing, json.dumps(oms.old_statement({"a": b"1", "b": b"2"})).encode(), None),
    "oms chain": (read_chain, CHAINED, None),
    "oms authorities": (lambda data: OmsAuthorities.read(data, now=oms.NOW), AUTHORITY, None),
    "oms key": (OmsKey.read, oms.pem(oms.P521), None),
    "trust": (read_trust, TRUST.trust, None),
    "root": (read_root, TRUST.first, TRUST.keys("owner-a", "owner-b")),
    "timestamp": (
        lambda data: follow.timestamp(ROOT, data, last=0, now=NOW),
        FILES["timestamp"],
        TRUST.keys("operator"),
    ),
    "snapshot": (read_snapshot, FILES["snapshot"], TRUST.keys("operator")),
    "targets": (read_targets, FILES["targets"], TRUST.keys("owner-a", "owner-b")),
    "status": (
        lambda data: follow.status(
            POLICY, DELEGATOR, named("status", data), data, last=None, now=NOW, latest=ROOT.expires
        ),
        FILES["status"],
        TRUST.keys("status-host"),
    ),
    "channel": (
        lambda data: follow.channel_file(DELEGATOR, named("production", data), data, name="production", now=NOW),
        FILES["production"],
        TRUST.keys("operator"),
    ),
    "proof": (lambda data: follow.logged(POLICY, SNAP, data, seen={}), PROOF, None),
    "spki": (PublicKey.from_spki, PACKAGER.public.spki, None),
    "pem": (read_public_key, PACKAGER.public.pem.encode(), None),
}
"""Name -> (reader, valid bytes, who signs TUF metadata again after a change)."""

JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.sampled_from(["", "x", "00" * 32, "sha256:" + "0" * 64, "2026-11-22T10:00:00Z", "AA==", "\0", "\ud800", "é"]),
    st.text(max_size=20),
    st.floats(),
    st.lists(st.none() | st.text(max_size=3) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=3), max_size=3),
)


def places(value, path=()):
    """Yield the path of every member of a JSON value."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


@st.composite
def one_member_changed(draw, data):
    """JSON of which one member is replaced, removed, doubled or joined by another."""
    members = json.loads(data)
    *path, last = draw(st.sampled_from(list(places(members))))
    holder = members
    for key in path:
        holder = holder[key]
    match draw(st.sampled_from(["replace", "replace", "remove", "add"])):
        case "replace":
            holder[last] = draw(JSON_VALUES)
        case "remove":
            del holder[last]
        case "add" if isinstance(holder, dict):
            holder[draw(st.sampled_from(["x-note", "also", "v", "_type"]))] = draw(JSON_VALUES)
        case _:
            holder.append(holder[last])
    return json.dumps(members, separators=(",", ":"), sort_keys=True).encode()


@st.composite
def damaged(draw, data):
    """Bytes of which a few are changed, cut out or doubled."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "end"])):
            case "flip":
                changed[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del changed[at : at + draw(st.integers(1, 20))]
            case "insert":
                changed[at:at] = draw(st.binary(max_size=8) | st.sampled_from([b'"', b"{", b"\n", b"\\ud800", b"x-"]))
            case _:
                del changed[at:]
    return bytes(changed)


def read(reader, data):
    """Read, and let nothing but errors of ours out."""
    with contextlib.suppress(ChopmarkError):
        reader(data)


@pytest.mark.parametrize("name", READERS)
def test_what_is_valid_is_read(name):
    reader, valid, _ = READERS[name]
    reader(valid)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25)
@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=b"null")
@example(data=b"[" * 100_000)
@example(data=b'{"signed":{"_type":"root"},"signatures":[]}')
@example(data=b'{"a":' * 990 + b"1" + b"}" * 990)
def test_any_bytes(name, data):
    read(READERS[name][0], data)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25)
@given(data=st.data())
def test_damaged_bytes(name, data):
    reader, valid, _ = READERS[name]
    read(reader, data.draw(damaged(valid)))


@pytest.mark.parametrize("name", [name for name, (_, valid, _) in READERS.items() if valid.startswith(b"{")])
@settings(max_examples=40)
@given(data=st.data())
def test_one_member_changed(name, data):
    reader, valid, _ = READERS[name]
    read(reader, data.draw(one_member_changed(valid)))


@pytest.mark.parametrize("name", [name for name, (_, _, signers) in READERS.items() if signers])
@settings(max_examples=25)
@given(data=st.data())
def test_one_member_changed_by_who_holds_the_keys(name, data):
    reader, valid, signers = READERS[name]
    changed = data.draw(one_member_changed(valid))
    try:
        metadata = Metadata.from_bytes(changed)
        metadata.signatures.clear()
        sign_metadata(metadata, signers)
        changed = metadata.to_bytes()
    except Exception:  # noqa: BLE001 - what cannot be signed is no test of the reader
        assume(False)
    read(reader, changed)


# Round trips

digests = st.binary(min_size=32, max_size=32).map(Digest)
names = st.from_regex(r"(?!x-)[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
numbers = st.integers(1, canonical.MAX_INTEGER)
times = st.integers(-62_135_596_800, 253_402_300_799).map(
    lambda s: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER) | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words.filter(lambda k: not k.startswith("x-")), inner, max_size=3)
    ),
    max_leaves=10,
)


def allowed(name):
    try:
        check_file_name(name)
    except DecodeError:
        return False
    return True


file_names = (
    st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8), min_size=1, max_size=3)
    .map("/".join)
    .filter(allowed)
)
entries = st.builds(
    FileEntry,
    name=file_names,
    length=st.integers(0, canonical.MAX_INTEGER),
    sha256=digests,
    fsverity=st.fixed_dictionaries({4096: digests, 65536: digests}),
)
releases = st.builds(
    Release,
    digest=digests,
    workspace=names,
    model=names,
    version=words,
    channels=st.lists(names, max_size=3).map(tuple),
    counter=numbers,
    epoch=numbers,
    manifest=digests,
    manifest_length=numbers,
    fallbacks=st.lists(digests, max_size=3).map(tuple),
    runtime=st.builds(RuntimeNeed, name=words, range=words, libraries=st.dictionaries(words, digests, max_size=2)),
    abi=words,
    min_app=words,
    min_tier=st.integers(0, 9),
    check_class=names,
    self_test=digests,
    vsa=digests,
    evidence=st.lists(digests, max_size=3).map(tuple),
)
status_entries = st.lists(
    st.builds(StatusEntry, kind=st.sampled_from(["release", "manifest"]), digest=digests, reason=words, since=times),
    max_size=3,
).map(tuple)
statuses = st.builds(
    Status,
    version=numbers,
    issued=times,
    revoked=status_entries,
    min_epoch=st.dictionaries(names, st.integers(0, canonical.MAX_INTEGER), max_size=3),
    holds=status_entries,
)
assignments = st.lists(
    st.tuples(names, names, st.lists(st.integers(0, BUCKETS), min_size=2, max_size=2, unique=True), digests).map(
        lambda t: Assignment(model=t[0], runtime=t[1], first=min(t[2]), end=max(t[2]), release=t[3])
    ),
    max_size=4,
).map(tuple)


@given(json_values)
def test_json(value):
    data = canonical.encode(value)
    assert canonical.decode(data, what="value", max_bytes=10**6) == value
    assert canonical.encode(json.loads(data)) == data


@given(times)
def test_times(moment):
    assert parse_time(format_time(moment), what="t") == moment


@given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"))
def test_any_text_as_a_time(text):
    with contextlib.suppress(DecodeError):
        assert format_time(parse_time(text, what="t")) == text, "a time has one spelling"


@given(st.lists(entries, min_size=1, max_size=4))
def test_manifests(files):
    try:
        manifest = Manifest(files=tuple(sorted(files, key=lambda file: file.name.encode())))
    except DecodeError:
        assume(False)
    assert decode_manifest(manifest.encode()) == manifest


@given(st.text(max_size=20))
def test_any_text_as_a_file_name(name):
    with contextlib.suppress(DecodeError):
        check_file_name(name)
        name.encode()


@given(
    st.lists(st.builds(Subject, words, digests), min_size=1, max_size=3),
    words,
    st.dictionaries(words.filter(lambda k: not k.startswith("x-")), json_values, max_size=3),
)
def test_statements(subjects, predicate_type, predicate):
    statement = Statement(subjects=tuple(subjects), predicate_type=predicate_type, predicate=predicate)
    assert decode_statement(encode_statement(statement)) == statement


@given(st.binary(max_size=200), st.lists(st.builds(Signature, words, st.binary(max_size=80)), max_size=4))
def test_envelopes_and_leaves(payload, signatures):
    envelope = Envelope(payload=payload, signatures=tuple(signatures))
    assert decode_envelope(encode_envelope(envelope)) == envelope
    assert decode_leaf(statement_leaf(envelope)) == envelope


@given(releases)
def test_releases(release):
    payload = encode_statement(release_statement(release))
    assert decode_release(payload) == replace(release, digest=Digest.of(payload))


@given(statuses)
def test_statuses(status):
    assert decode_status(status_extension(status), version=status.version) == status
    assert decode_entries(entries_json(status.revoked)) == status.revoked


@given(assignments)
def test_channel_files(given_assignments):
    assert decode_assignments(channel_extension(given_assignments)) == given_assignments


@given(st.integers(1, 10**6), st.dictionaries(names, st.integers(1, 10**8), min_size=1, max_size=3), words)
def test_trust(version, ages, witness_policy):
    policy = replace(
        POLICY,
        version=version,
        witness_policy=witness_policy,
        limits=Limits(max_status_age_s=ages, clock_tolerance_s=0),
    )
    assert decode_trust(encode_trust(policy)) == policy


@given(st.text(max_size=12), st.text(max_size=12) | st.from_regex(r"[<>=!]=?[0-9.]{0,12}(,[<>=!]=?[0-9.]{0,12})?"))
def test_ranges_never_raise(version, wanted):
    assert in_range(version, wanted) in (True, False)
