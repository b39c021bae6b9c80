# SPDX-License-Identifier: Apache-2.0
"""ReleasePolicy files -> :class:`Policy`, strictly; every expression is type-checked here, not when it is needed."""

from __future__ import annotations

from datetime import datetime
from importlib import resources
from typing import Final, Literal

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.clock import format_time
from chopmark.documents import read_document_as
from chopmark.errors import DecodeError, UsageError
from chopmark.policy.cel import CelEngine, Engine
from chopmark.policy.model import Phase, Policy, Rule

MAX_RULES: Final = 64
MAX_MESSAGE_CHARS: Final = 300


class _Rule(canonical.Strict, frozen=True, kw_only=True):
    id: str
    phase: Phase
    cel: str
    message: str = ""


class _Spec(canonical.Strict, frozen=True, kw_only=True):
    rules: list[_Rule]


class _Metadata(canonical.Strict, frozen=True, kw_only=True):
    name: str


class _File(canonical.Strict, frozen=True, kw_only=True):
    kind: Literal["ReleasePolicy"]
    metadata: _Metadata
    spec: _Spec


def decode_policy(data: bytes, *, engine: Engine | None = None) -> Policy:
    """Read a ReleasePolicy.

    Raises:
        DecodeError: not such a file, an expression that is no condition, a rule id that stands twice, or a phase
            without a rule (it would allow everything).
    """
    wire = read_document_as(data, _File, what="ReleasePolicy")
    rules = wire.spec.rules
    engine = engine or CelEngine()
    try:
        for name in (wire.metadata.name, *(rule.id for rule in rules)):
            canonical.check_name(name, what="ReleasePolicy")
    except UsageError as error:
        raise DecodeError(error.message, hint=error.hint) from error
    if len({rule.id for rule in rules}) != len(rules) or len(rules) > MAX_RULES:
        raise DecodeError(f"ReleasePolicy: a rule id stands twice, or more than {MAX_RULES} rules")
    if {rule.phase for rule in rules} != set(Phase):
        raise DecodeError("ReleasePolicy: each phase needs a rule; without one it would allow everything")
    for rule in rules:
        if len(rule.message) > MAX_MESSAGE_CHARS:
            raise DecodeError(f"ReleasePolicy: the message of {rule.id} is longer than {MAX_MESSAGE_CHARS} characters")
        try:
            engine.compile(rule.cel, rule.phase)
        except DecodeError as error:
            raise DecodeError(f"ReleasePolicy: rule {rule.id}: {error.message}", hint=error.hint) from error
    return Policy(
        name=wire.metadata.name,
        digest=Digest.of(data),
        rules=tuple(Rule(id=r.id, phase=r.phase, cel=r.cel, message=r.message) for r in rules),
    )


def default_policy_file() -> bytes:
    """Return the policy that a new workspace starts with."""
    return resources.files("chopmark.policy").joinpath("default.yaml").read_bytes()


def adoption_policy_file(until: datetime) -> bytes:
    """Return the policy ``adoption``: as the one a workspace starts with, for models whose origin is unknown.

    Args:
        until: from then on it allows nothing.
    """
    template = resources.files("chopmark.policy").joinpath("adoption.yaml").read_bytes()
    return template.replace(b"@UNTIL@", format_time(until).encode())
