# SPDX-License-Identifier: Apache-2.0
"""Inspect one model file: what it is, what is in it, whether it may go on.

Any bytes give an :class:`Inspection`; nothing in a file raises. A walk that stopped is a finding and not complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chopmark.artifacts import Digest, read_file
from chopmark.inspection.formats import ends_as_zip, foreign_format
from chopmark.inspection.model import Finding, Inspection, Limits
from chopmark.inspection.onnx import Walk
from chopmark.inspection.operators import DEFAULT_OPERATORS
from chopmark.inspection.protobuf import Malformed

DEFAULT_LIMITS = Limits()


def inspect_bytes(
    data: bytes, *, limits: Limits = DEFAULT_LIMITS, allowed: Mapping[str, frozenset[str]] = DEFAULT_OPERATORS
) -> Inspection:
    """Return what *data* are.

    Args:
        allowed: domain -> operators that may be used; the standard domain is spelled ``""``.
    """
    kind = foreign_format(data)
    if kind or not data or len(data) > limits.max_bytes:
        if len(data) > limits.max_bytes:
            finding = Finding("too-large", "byte 0", f"{len(data):,} bytes, more than the {limits.max_bytes:,} allowed")
        elif kind:
            finding = Finding("foreign-format", "byte 0", f"this is {kind}, not ONNX")
        else:
            finding = Finding("empty", "byte 0", "there are no bytes")
        return _refused(data, kind or "unknown", finding)
    return _walk(data, limits, allowed)


def inspect_file(
    path: Path, *, limits: Limits = DEFAULT_LIMITS, allowed: Mapping[str, frozenset[str]] = DEFAULT_OPERATORS
) -> Inspection:
    """Read a file once and return what it is; the digest is that of the bytes that were walked.

    Raises:
        UsageError: missing, unreadable, a symbolic link or no regular file.
        DecodeError: longer than ``limits.max_bytes``; it was not read.
    """
    return inspect_bytes(read_file(path, max_bytes=limits.max_bytes), limits=limits, allowed=allowed)


def _walk(data: bytes, limits: Limits, allowed: Mapping[str, frozenset[str]]) -> Inspection:
    walk = Walk(data, limits=limits, allowed=allowed)
    whole = True
    try:
        walk.run()
        if ends_as_zip(data):
            walk.rules.find("polyglot", "model", "zip readers would find an archive in this file")
        findings = list(walk.rules.findings)
    except Malformed as error:
        whole = False
        findings = [*walk.rules.findings, Finding(error.code, f"byte {error.offset}", error.message)]
    return Inspection(
        format="onnx" if walk.rules.operators else "unknown",
        sha256=Digest.of(data),
        length=len(data),
        findings=tuple(findings),
        bytes_covered=walk.reader.covered,
        complete=whole and walk.reader.covered == len(data),
        operators=dict(sorted(walk.rules.operators.items())),
        initializers=walk.rules.initializers,
        parameters=walk.rules.parameters,
    )


def _refused(data: bytes, kind: str, finding: Finding) -> Inspection:
    return Inspection(
        format=kind, sha256=Digest.of(data), length=len(data), findings=(finding,), bytes_covered=0, complete=False
    )
