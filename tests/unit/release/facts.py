# SPDX-License-Identifier: Apache-2.0
"""A release, without anything around it."""

from __future__ import annotations

from chopmark.channel import Release, RuntimeNeed
from unit.release.kit import digest


def a_release() -> Release:
    return Release(
        digest=digest("computed from the rest"),
        workspace="acme",
        model="digits",
        version="2",
        channels=("production",),
        counter=2,
        epoch=1,
        manifest=digest("manifest"),
        manifest_length=564,
        fallbacks=(),
        runtime=RuntimeNeed(name="onnxruntime", range=">=1.20,<2", libraries={}),
        abi="any",
        min_app="0",
        min_tier=1,
        check_class="normal",
        self_test=digest("self-test"),
        vsa=digest("vsa"),
        evidence=(digest("e"),),
    )
