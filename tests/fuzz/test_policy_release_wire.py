# SPDX-License-Identifier: Apache-2.0
"""Any bytes end in success or in an error of ours; what is written is read back; two CEL engines agree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chopmark.documents import read_document, write_document
from chopmark.errors import ChopmarkError
from chopmark.policy import (
    Candidate,
    Phase,
    decide,
    decode_policy,
    default_policy_file,
    read_vsa,
)
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
from chopmark.statements import PredicateType, Statement, Subject
from simulators import plain_release
from unit.policy.facts import PACKAGE, SecondEngine, default_policy, fact
from unit.release.kit import chain, digest, inspection, result_of

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)

READERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (lambda data: read_document(data, what="x"), b"a: [b, {c: 1}]\n"),
    (decode_policy, default_policy_file()),
    (decode_channel, empty_channel("production")),
    (
        lambda data: decode_model_release(data, workspace="acme"),
        encode_model_release(model_release(plain_release(), policy="default")),
    ),
]


@pytest.mark.parametrize("reader", [reader for reader, _ in READERS])
@QUICK
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes(reader: Callable[[bytes], object], data: bytes) -> None:
    with suppress(ChopmarkError):
        reader(data)


@pytest.mark.parametrize(("reader", "good"), READERS[1:])
@QUICK
@given(data=st.data())
def test_good_bytes_with_some_replaced(reader: Callable[[bytes], object], good: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    middle = data.draw(
        st.sampled_from([b"", b"&a ", b"*a", b"!!x ", b"---\n", b"\x00", b'"', b"{", b": "]) | st.binary()
    )
    with suppress(ChopmarkError):
        reader(good[:start] + middle + good[end:])


@QUICK
@given(value=st.dictionaries(TEXT, VALUES, max_size=4))
def test_documents_round_trip(value: dict[str, object]) -> None:
    assert read_document(write_document(value), what="x") == value


@QUICK
@given(version=st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_+-]{0,8}", fullmatch=True), counter=st.integers(1, 2**53 - 1))
def test_releases_round_trip(version: str, counter: int) -> None:
    model = model_release(plain_release(version=version, counter=counter), policy="default")
    assert decode_model_release(encode_model_release(model), workspace="acme") == model


@QUICK
@given(
    first=st.integers(0, 9_999), width=st.integers(1, 10_000), name=st.sampled_from(["no", "1", "1e3", "null", "a.b"])
)
def test_channels_round_trip(first: int, width: int, name: str) -> None:
    ring = Ring(model=name, first=first, end=min(first + width, 10_000), release=digest("x"))
    channel = Channel(name=name, rings=(ring,))
    assert decode_channel(encode_channel(channel)) == channel


@QUICK
@given(predicate=st.dictionaries(TEXT, VALUES, max_size=4))
def test_any_predicate_as_a_vsa(predicate: dict[str, object]) -> None:
    said = Statement(subjects=(Subject("model/a", PACKAGE),), predicate_type=PredicateType.VSA, predicate=predicate)
    with suppress(ChopmarkError):
        read_vsa(said)


STATEMENTS = st.one_of(
    st.sampled_from(chain(PACKAGE)),
    st.builds(
        lambda result, ppm: ("tester", result_of(PACKAGE, result=result, ppm=ppm)),
        st.sampled_from(["PASSED", "FAILED", "WARNED"]),
        st.sampled_from([0, 949_999, 950_000, 976_000]),
    ),
    st.builds(
        lambda findings, complete: ("inspector", inspection(PACKAGE, *findings, complete=complete)),
        st.lists(st.just("finding"), max_size=1),
        st.booleans(),
    ),
    st.builds(
        lambda kind, predicate: (
            {"provenance": "builder", "test-result": "tester", "inspection": "inspector"}[kind.short],
            Statement(subjects=(Subject("model/digits", PACKAGE),), predicate_type=kind, predicate=predicate),
        ),
        st.sampled_from([PredicateType.PROVENANCE, PredicateType.TEST_RESULT, PredicateType.INSPECTION]),
        st.dictionaries(
            st.sampled_from(["result", "metrics", "complete", "findings", "buildDefinition"]),
            VALUES.filter(lambda value: not isinstance(value, str) or value.isascii()),
        ),
    ),
)


@QUICK
@given(said=st.lists(STATEMENTS, max_size=12))
def test_two_engines_decide_alike_and_what_is_used_suffices(said: list[tuple[str, Statement]]) -> None:
    """Only over a statement of a wrong shape may they differ: the second gives up where CEL looks for another one."""
    some = [fact(owner, statement, index) for index, (owner, statement) in enumerate(said)]
    candidate = Candidate(release=plain_release(manifest=PACKAGE))
    one = decide(default_policy(), Phase.EVIDENCE, facts=some, candidate=candidate)
    two = decide(default_policy(), Phase.EVIDENCE, facts=some, candidate=candidate, engine=SecondEngine())
    for verdict, second in zip(one.verdicts, two.verdicts, strict=True):
        assert verdict.ok == second.ok or (verdict.ok and "could not be evaluated" in second.message)
        if verdict.ok:
            used = [f for f in some if f.digest in verdict.facts]
            again = decide(default_policy(), Phase.EVIDENCE, facts=used, candidate=candidate)
            assert next(v.ok for v in again.verdicts if v.id == verdict.id)
