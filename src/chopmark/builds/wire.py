# SPDX-License-Identifier: Apache-2.0
"""Provenance, test result, parameters and the small files of a package: bytes or JSON <-> model, strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.builds.model import Builder, BuildType, Dependency, Provenance
from chopmark.clock import format_time, parse_time
from chopmark.errors import DecodeError
from chopmark.statements import PredicateType, Statement, Subject

MAX_PARAMETER_BYTES = 64 * 1024
MAX_SMALL_FILE_BYTES = 1024 * 1024
MAX_DEPTH = 16

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class _Resource(canonical.Strict, frozen=True, kw_only=True):
    name: str
    digest: dict[str, str]
    uri: str = ""


class _Definition(canonical.Strict, frozen=True, kw_only=True, rename="camel"):
    build_type: str
    external_parameters: dict[str, Any]
    internal_parameters: dict[str, Any] = {}
    resolved_dependencies: list[_Resource] = []


class _Builder(canonical.Strict, frozen=True, kw_only=True):
    id: str
    version: dict[str, str] = {}


class _Metadata(canonical.Strict, frozen=True, kw_only=True, rename="camel"):
    invocation_id: str
    started_on: str
    finished_on: str


class _RunDetails(canonical.Strict, frozen=True, kw_only=True):
    builder: _Builder
    metadata: _Metadata
    byproducts: list[_Resource] = []


class _Provenance(canonical.Strict, frozen=True, kw_only=True, rename="camel"):
    build_definition: _Definition
    run_details: _RunDetails


def provenance_statement(subjects: tuple[Subject, ...], provenance: Provenance) -> Statement:
    """Return what the builder signs."""
    metadata = {
        "invocationId": provenance.invocation,
        "startedOn": format_time(provenance.started),
        "finishedOn": format_time(provenance.finished),
    }
    details: dict[str, object] = {
        "builder": {"id": provenance.builder.id, "version": dict(provenance.builder.version)},
        "metadata": metadata,
    }
    if provenance.log is not None:
        details["byproducts"] = [{"name": "log", "digest": {"sha256": provenance.log.hex}}]
    return Statement(
        subjects=subjects,
        predicate_type=PredicateType.PROVENANCE,
        predicate={
            "buildDefinition": {
                "buildType": str(provenance.build_type),
                "externalParameters": dict(provenance.external),
                "internalParameters": dict(provenance.internal),
                "resolvedDependencies": [_resource(dependency) for dependency in provenance.dependencies],
            },
            "runDetails": details,
        },
    )


def decode_provenance(predicate: Mapping[str, object]) -> Provenance:
    """Read the provenance of one of our steps.

    Raises:
        DecodeError: not such a predicate, another builder's build type, a digest or time that is none.
    """
    wire = canonical.convert(dict(predicate), _Provenance, what="provenance")
    definition, details = wire.build_definition, wire.run_details
    if definition.build_type not in set(BuildType):
        raise DecodeError(f"provenance: build type {definition.build_type[:120]!r} is not known here")
    logs = [_dependency(product) for product in details.byproducts]
    if len(logs) > 1 or any((log.name, log.algorithm) != ("log", "sha256") for log in logs):
        raise DecodeError("provenance: byproducts are one log")
    dependencies = tuple(_dependency(resource) for resource in definition.resolved_dependencies)
    if len({dependency.name for dependency in dependencies}) != len(dependencies):
        raise DecodeError("provenance: a dependency stands twice")
    return Provenance(
        build_type=BuildType(definition.build_type),
        external=definition.external_parameters,
        internal=definition.internal_parameters,
        dependencies=dependencies,
        builder=Builder(id=details.builder.id, version=details.builder.version),
        invocation=details.metadata.invocation_id,
        started=parse_time(details.metadata.started_on, what="startedOn"),
        finished=parse_time(details.metadata.finished_on, what="finishedOn"),
        log=Digest.from_hex(logs[0].digest) if logs else None,
    )


def _resource(dependency: Dependency) -> dict[str, object]:
    resource: dict[str, object] = {
        "name": dependency.name,
        "digest": {dependency.algorithm: dependency.digest},
    }
    return {**resource, "uri": dependency.uri} if dependency.uri else resource


def _dependency(resource: _Resource) -> Dependency:
    if len(resource.digest) != 1:
        raise DecodeError(f"provenance: {resource.name[:80]!r} has {len(resource.digest)} digests; it has one")
    ((algorithm, digest),) = resource.digest.items()
    if algorithm == "sha256":
        Digest.from_hex(digest)
    elif algorithm != "gitCommit" or not _COMMIT.fullmatch(digest):
        raise DecodeError(f"provenance: {resource.name[:80]!r} has neither a sha256 nor a gitCommit")
    return Dependency(name=resource.name, algorithm=algorithm, digest=digest, uri=resource.uri)


# --- parameters -----------------------------------------------------------------------------------------------------


def decode_parameters(data: bytes) -> dict[str, object]:
    """Read a file of hyperparameters: a JSON object; here, and only here, numbers may have a fraction.

    Raises:
        DecodeError: not such an object, a member twice, NaN, too long or too deep.
    """
    if len(data) > MAX_PARAMETER_BYTES:
        raise DecodeError(f"parameters: more than the {MAX_PARAMETER_BYTES:,} bytes allowed")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"parameters: not JSON ({str(error)[:120]})") from error
    if not isinstance(value, dict):
        raise DecodeError("parameters: not a JSON object")
    recorded(value)
    return value


def parse_parameter(text: str) -> tuple[str, object]:
    """Read ``name=value``: the value as JSON where it is a number, true, false or null, else as text.

    Raises:
        DecodeError: no ``=``, or no name before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise DecodeError(f"parameter: {text[:80]!r} is not like name=value")
    try:
        parsed = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return name, value
    return name, value if isinstance(parsed, str | dict | list) else parsed


def recorded(value: object, *, depth: int = 0) -> object:
    """Return a parameter as it stands in a statement: what is no whole number below 2^53 becomes its text."""
    if depth > MAX_DEPTH:
        raise DecodeError(f"parameters: deeper than {MAX_DEPTH}")
    match value:
        case bool() | None | str():
            return value
        case int() if abs(value) <= canonical.MAX_INTEGER:
            return value
        case dict():
            return {str(name): recorded(member, depth=depth + 1) for name, member in value.items()}
        case list() | tuple():
            return [recorded(member, depth=depth + 1) for member in value]
        case int() | float():
            return repr(value)
        case _:
            raise DecodeError(f"parameters: a {type(value).__name__} cannot be recorded")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DecodeError("parameters: a member stands twice")
    return members


def _no_constant(text: str) -> object:
    raise DecodeError(f"parameters: {text} is no number")


# --- the small files of a package -----------------------------------------------------------------------------------


class _Labels(canonical.Strict, frozen=True, kw_only=True):
    v: int
    output: str
    labels: list[str]


class _Preprocessing(canonical.Strict, frozen=True, kw_only=True):
    v: int
    input: str
    type: str
    shape: list[str | int]
    range: list[int] = []
    order: str = ""
    meaning: str = ""


def decode_labels(data: bytes) -> tuple[str, ...]:
    """Read ``labels.json``; return the name of each class, in the order of the model's output.

    Raises:
        DecodeError: not such a file, or a name twice.
    """
    wire = canonical.decode_as(data, _Labels, what="labels.json", max_bytes=MAX_SMALL_FILE_BYTES)
    if wire.v != 1 or not wire.labels or len(set(wire.labels)) != len(wire.labels):
        raise DecodeError("labels.json: an unknown version, no label, or a label twice")
    return tuple(wire.labels)


def check_preprocessing(data: bytes) -> None:
    """Accept a ``preprocessing.json``.

    Raises:
        DecodeError: not such a file.
    """
    wire = canonical.decode_as(data, _Preprocessing, what="preprocessing.json", max_bytes=MAX_SMALL_FILE_BYTES)
    if wire.v != 1 or len(wire.range) not in {0, 2} or not wire.shape:
        raise DecodeError("preprocessing.json: an unknown version, no shape, or a range that is not two numbers")


# --- the test result ------------------------------------------------------------------------------------------------


class _Class(canonical.Strict, frozen=True, kw_only=True):
    count: int
    correct: int
    accuracy_ppm: int


class _Metrics(canonical.Strict, frozen=True, kw_only=True):
    accuracy_ppm: int
    held_back: int
    correct: int
    per_class: dict[str, _Class]


class _Configuration(canonical.Strict, frozen=True, kw_only=True):
    name: str
    digest: dict[str, str] = {}
    uri: str = ""


class _TestResult(canonical.Strict, frozen=True, kw_only=True, rename="camel"):
    result: str
    configuration: list[_Configuration]
    passed_tests: list[str] = []
    warned_tests: list[str] = []
    failed_tests: list[str] = []
    tested_at: str
    metrics: _Metrics
    requirements: dict[str, int]


def decode_test_result(predicate: Mapping[str, object]) -> tuple[str, int, int]:
    """Read the predicate of one of our tests; return its result, the accuracy in ppm, and how many rows were asked.

    Raises:
        DecodeError: not such a predicate, or a result that contradicts its own lists.
    """
    wire = canonical.convert(dict(predicate), _TestResult, what="test result")
    expected = "FAILED" if wire.failed_tests else "WARNED" if wire.warned_tests else "PASSED"
    metrics = wire.metrics
    if wire.result != expected or not 0 <= metrics.correct <= metrics.held_back or metrics.held_back == 0:
        raise DecodeError("test result: its result contradicts its tests, or its numbers each other")
    if metrics.accuracy_ppm != metrics.correct * 1_000_000 // metrics.held_back:
        raise DecodeError("test result: its accuracy is not the share of correct answers")
    return wire.result, metrics.accuracy_ppm, metrics.held_back


def base_name(name: str) -> str:
    """Return the last part of a ``/``-separated name."""
    return PurePosixPath(name).name
