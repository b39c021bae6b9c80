# SPDX-License-Identifier: Apache-2.0
"""Any bytes end in success or in an error of ours; what is written is read back the same."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chopmark.artifacts import Digest
from chopmark.builds import (
    Builder,
    BuildType,
    Code,
    Dependency,
    Provenance,
    Record,
    Surroundings,
    decode_labels,
    decode_parameters,
    decode_provenance,
    decode_test_result,
    describe_argument,
    model_name,
    parse_parameter,
    provenance_statement,
    record_parameter,
    record_statement,
)
from chopmark.builds.wire import check_preprocessing, recorded
from chopmark.data import Column, Pin, decode_contract, decode_dataset
from chopmark.data.read import read_rows
from chopmark.data.wire import with_pins
from chopmark.errors import ChopmarkError, UsageError
from chopmark.statements import Subject, decode_statement, encode_statement

COLUMNS = (Column(name="x", minimum=0, maximum=9), Column(name="label", minimum=0, maximum=1))
CONTRACT = b"""\
[dataset]
name = "n"
version = 1
[[columns]]
name = "x"
type = "integer"
minimum = 0
maximum = 9
[[columns]]
name = "label"
type = "integer"
minimum = 0
maximum = 1
[[sources]]
name = "s"
file = "s.csv"
"""
CSV = b"x,label\n1,0\n2,1\n"
LABELS = b'{"v":1,"output":"x","labels":["a","b"]}'
PREPROCESSING = b'{"v":1,"input":"x","type":"float32","shape":["n",2]}'
PARAMETERS = b'{"rate":0.1,"seed":1,"layers":[8,8]}'

READERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (decode_contract, CONTRACT),
    (lambda data: list(read_rows(data, COLUMNS, file="f.csv")), CSV),
    (decode_labels, LABELS),
    (check_preprocessing, PREPROCESSING),
    (decode_parameters, PARAMETERS),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,8}", fullmatch=True)
DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)


def harmless(read: Callable[[], object]) -> None:
    with contextlib.suppress(ChopmarkError):
        read()


@pytest.mark.parametrize(("read", "good"), READERS)
def test_good_bytes_are_read(read: Callable[[bytes], object], good: bytes) -> None:
    read(good)


@pytest.mark.parametrize(("read", "good"), READERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_bytes(read: Callable[[bytes], object], good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 8))
    put = data.draw(st.binary(max_size=12) | st.sampled_from([b"[" * 5000, b"9" * 5000, b"a.b." * 500, b"NaN", b"\r"]))
    harmless(lambda: read(good[:at] + put + good[at + cut :]))
    harmless(lambda: read(put))


@pytest.mark.parametrize("read", [decode_provenance, decode_test_result, decode_dataset])
@settings(max_examples=60, deadline=None)
@given(predicate=st.dictionaries(st.text(max_size=8), JSON, max_size=6))
def test_any_predicate(read: Callable[[dict], object], predicate: dict) -> None:
    harmless(lambda: read(predicate))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_provenance_with_a_member_replaced(data: st.DataObject) -> None:
    predicate = json.loads(json.dumps(_statement(_provenance(())).predicate))
    part = predicate[data.draw(st.sampled_from(sorted(predicate)))]
    part[data.draw(st.sampled_from(sorted(part)) | st.text(max_size=4))] = data.draw(JSON)
    harmless(lambda: decode_provenance(predicate))


@settings(max_examples=60, deadline=None)
@given(
    dependencies=st.lists(
        st.builds(
            lambda name, digest, uri: Dependency(name=name, algorithm="sha256", digest=digest.hex, uri=uri),
            NAMES,
            DIGESTS,
            NAMES | st.just(""),
        ),
        unique_by=lambda dependency: dependency.name,
        max_size=4,
    ),
    log=DIGESTS | st.none(),
    external=st.dictionaries(NAMES, st.integers(-9, 9) | NAMES, max_size=3),
)
def test_provenance_round_trip(dependencies: list[Dependency], log: Digest | None, external: dict) -> None:
    external = {name: value for name, value in external.items() if not name.startswith("x-")}
    provenance = _provenance(tuple(dependencies), log=log, external=external)
    assert decode_provenance(decode_statement(encode_statement(_statement(provenance))).predicate) == provenance


@given(st.dictionaries(st.from_regex(r'[a-z"é][a-z" .-]{0,8}', fullmatch=True), DIGESTS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_pins_round_trip(digests: dict[str, Digest]) -> None:
    pins = {
        f"d/{name}x": Pin(sha256=digest, rows=number) for number, (name, digest) in enumerate(digests.items(), start=1)
    }
    once = with_pins(CONTRACT, pins)
    assert decode_contract(once).pins == pins
    assert with_pins(once, pins) == once


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20), st.floats() | st.integers() | JSON)
def test_parameters_can_always_be_recorded(text: str, value: object) -> None:
    harmless(lambda: recorded(parse_parameter(text)[1]))
    harmless(lambda: encode_statement(_statement(_provenance((), external={"p": recorded(value)}))))


def _provenance(dependencies: tuple[Dependency, ...], *, log: Digest | None = None, external=None) -> Provenance:
    moment = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    return Provenance(
        build_type=BuildType.TRAIN,
        external=external or {},
        internal={},
        dependencies=dependencies,
        builder=Builder(id="https://acme.example/builder", version={"chopmark": "1"}),
        invocation="run-1",
        started=moment,
        finished=moment,
        log=log,
    )


def _statement(provenance: Provenance):
    return provenance_statement((Subject("model/n", Digest.of(b"")),), provenance)


# --- recorded runs

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), ANY, max_size=5), st.text(max_size=30))
def test_any_parameters_make_a_statement_or_an_error_of_ours(params: dict[str, object], folder: str) -> None:
    shown: dict[str, object] = {}
    for name, value in params.items():
        with contextlib.suppress(UsageError):
            shown[name], _ = record_parameter(name, value)
        described, _ = describe_argument(name, value)  # never an error, whatever it is given
        assert described is None or isinstance(described, bool | int | str | list | dict)
    record = Record(
        step=BuildType.TRAIN,
        model=model_name(folder),
        code=Code(entry="fit", problem="not in a Git repository"),
        surroundings=Surroundings(python="3.11.0", platform="Linux", packages={}),
        started=datetime(2026, 11, 22, tzinfo=UTC),
        finished=datetime(2026, 11, 22, tzinfo=UTC),
        parameters=shown,
        outputs={"m.onnx": Digest.of(b"m")},
    )
    statement = record_statement(record, builder=Builder(id="https://b.example", version={}), invocation="1")
    read = decode_statement(encode_statement(statement))
    provenance = decode_provenance(read.predicate)
    assert provenance.external["parameters"] == shown
    assert provenance.build_type is BuildType.TRAIN
