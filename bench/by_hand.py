# SPDX-License-Identifier: Apache-2.0
"""Twelve rules in Python that was written for them: the floor of :mod:`bench.policy`. Facts are JSON, as rules see them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

View = dict[str, Any]

_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_BUILD = "https://chopmark.dev/build/{}/v1"
_FREE = {"Apache-2.0", "MIT", "BSD-3-Clause"}


def verdicts(facts: list[View], release: View) -> list[bool]:
    """Return the verdict of each rule of the default policy's evidence phase, then of policy.yaml, in their order."""
    package = release["manifest"]
    datasets = _said(facts, "dataset", "data-owner")
    made = _said(facts, "provenance", "builder")
    trained = _built(made, "train")
    tests = [fact for fact in _said(facts, "test-result", "tester") if fact["subject"] == package]
    inspections = [fact for fact in _said(facts, "inspection", "inspector") if fact["subject"] == package]
    boms = _said(facts, "sbom", "inspector")
    return [
        bool(_inputs(trained, "sha256") & {fact["subject"].removeprefix("sha256:") for fact in datasets}),
        any(_COMMIT.fullmatch(commit) for commit in _inputs(trained, "gitCommit")),
        _unbroken(made, package),
        _newest(tests, lambda said: said["result"] == "PASSED"),
        _newest(tests, lambda said: said["metrics"]["accuracy_ppm"] >= 950_000),
        _newest(inspections, lambda said: said["complete"] is True and not said["findings"]),
        any(fact["subject"] == package for fact in boms),
        not any(fact["subject"] == package for fact in _said(facts, "revocation", "security")),
        all(fact["predicate"]["runDetails"]["builder"]["id"] == "https://ci.acme/builder" for fact in made),
        any(fact["predicate"]["metrics"]["attack_success_ppm"] <= 50_000 for fact in tests),
        all(part["licence"] in _FREE for fact in boms for part in fact["predicate"]["components"]),
        release["runtime"]["name"] in {"onnxruntime", "litert"} and release["min_tier"] >= 1,
    ]


def _said(facts: Iterable[View], kind: str, role: str) -> list[View]:
    return [fact for fact in facts if fact["type"] == kind and fact["role"] == role]


def _built(made: Iterable[View], step: str) -> list[View]:
    wanted = _BUILD.format(step)
    return [fact for fact in made if fact["predicate"]["buildDefinition"]["buildType"] == wanted]


def _inputs(made: Iterable[View], kind: str) -> set[str]:
    listed = [fact["predicate"]["buildDefinition"]["resolvedDependencies"] for fact in made]
    return {one["digest"][kind] for some in listed for one in some if kind in one["digest"]}


def _unbroken(made: list[View], package: str) -> bool:
    parts = {package.removeprefix("sha256:")}
    for step in ("package", "quantise", "convert", "train"):
        found = [fact for fact in _built(made, step) if fact["subject"].removeprefix("sha256:") in parts]
        parts = _inputs(found, "sha256")
    return bool(found)


def _newest(facts: list[View], good: Callable[[View], bool]) -> bool:
    return bool(facts) and good(max(facts, key=lambda fact: fact["index"])["predicate"])
