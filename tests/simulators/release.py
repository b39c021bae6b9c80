# SPDX-License-Identifier: Apache-2.0
"""A release with nothing around it."""

from __future__ import annotations

from dataclasses import replace

from chopmark.artifacts import Digest
from chopmark.channel import Release, RuntimeNeed

ONNX_RUNTIME = RuntimeNeed(name="onnxruntime", range=">=1.20,<2", libraries={})


def plain_release(**changes: object) -> Release:
    """Return the first release of ``digits`` to production, with *changes*; its digests are those of no file."""
    plain = Release(
        digest=Digest.of(b"computed from the rest"),
        workspace="acme",
        model="digits",
        version="1",
        channels=("production",),
        counter=1,
        epoch=1,
        manifest=Digest.of(b"manifest"),
        manifest_length=564,
        fallbacks=(),
        runtime=ONNX_RUNTIME,
        abi="any",
        min_app="0",
        min_tier=1,
        check_class="normal",
        self_test=Digest.of(b"self-test"),
        vsa=Digest.of(b"vsa"),
        evidence=(),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]
