# SPDX-License-Identifier: Apache-2.0
"""Ask a packaged model what it was never shown, and say how often it was right.

The bytes that are asked are those of the package that the statement names. Numbers are whole: parts per million.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from chopmark import canonical
from chopmark.artifacts import Digest, Manifest, Runtime, Session, read_file, scan, selftest
from chopmark.builds.model import Examples
from chopmark.builds.package import LABELS_FILE, MAX_MODEL_BYTES, MODEL_FILE
from chopmark.builds.wire import MAX_SMALL_FILE_BYTES, decode_labels
from chopmark.clock import format_time
from chopmark.errors import UsageError, VerificationError
from chopmark.statements import PredicateType, Statement, Subject

MILLION: Final = 1_000_000
BATCH_ROWS: Final = 256
DEFAULT_TOLERANCE: Final = 10_000
"""How far, in millionths, another runtime's answer may be from the one that was approved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a model must reach, in parts per million of right answers.

    Attributes:
        accuracy_ppm: below it, the test fails.
        class_accuracy_ppm: below it for any one class, the test fails.
        warn_below_ppm: below it, the test warns.
    """

    accuracy_ppm: int
    class_accuracy_ppm: int = 0
    warn_below_ppm: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How often a model was right: in all, and for each class that it was asked about, as (asked, right)."""

    count: int
    correct: int
    per_class: Mapping[int, tuple[int, int]]

    @property
    def accuracy_ppm(self) -> int:
        return self.correct * MILLION // self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessed:
    """The result of a test, and the statement that a tester signs."""

    statement: Statement
    evaluation: Evaluation
    result: str


def evaluate(session: Session, examples: Examples) -> Evaluation:
    """Ask *session* every example.

    Raises:
        VerificationError: ``model-output``: answers that are no numbers, or fewer classes than the labels need.
    """
    if not examples.labels:
        raise UsageError("there are no examples to ask")
    asked: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for scores, label in zip(_ask(session, examples.inputs), examples.labels, strict=True):
        if not 0 <= label < len(scores):
            raise VerificationError(f"label {label}: the model knows {len(scores)} classes", code="model-output")
        asked[label] += 1
        right[label] += _winner(scores) == label
    return Evaluation(
        count=asked.total(),
        correct=right.total(),
        per_class={label: (asked[label], right[label]) for label in sorted(asked)},
    )


def evaluate_package(
    folder: Path,
    *,
    model: str,
    package: Digest,
    runtime: Runtime,
    examples: Examples,
    requirements: Requirements,
    at: datetime,
) -> Assessed:
    """Test the model in a package folder on held-back *examples*.

    Args:
        package: the package digest; the folder must have it.
        at: when it is tested; a later result about the same package stands over this one.

    Raises:
        VerificationError: ``input-altered``: the folder is another package; ``model-output``.
    """
    manifest = scan(folder)
    if manifest.digest != package:
        raise VerificationError(
            f"{folder}: is the package {manifest.digest.short}…, not {package.short}…",
            code="input-altered",
            hint="restore the folder, or package again",
            evidence={"expected": str(package), "actual": str(manifest.digest)},
        )
    session = runtime.load(_read(folder, manifest, MODEL_FILE, max_bytes=MAX_MODEL_BYTES))
    labels = decode_labels(_read(folder, manifest, LABELS_FILE, max_bytes=MAX_SMALL_FILE_BYTES))
    width = len(next(iter(_ask(session, examples.inputs[:1])), ()))
    if width != len(labels):
        raise VerificationError(f"the model has {width} outputs for {len(labels)} labels", code="model-output")
    evaluation = evaluate(session, examples)
    result, tests = _judge(evaluation, requirements)
    predicate: dict[str, object] = {
        "result": result,
        "configuration": [
            {"name": "held-back", "digest": {"sha256": examples.digest.hex}},
            {"name": "runtime", "uri": f"https://chopmark.dev/runtime/{runtime.name}/{runtime.version}"},
        ],
        **tests,
        # Without it, the same result on another day would be the same statement, and keep the place of the first.
        "testedAt": format_time(at),
        "metrics": _metrics(evaluation),
        "requirements": {
            "accuracy_ppm": requirements.accuracy_ppm,
            "class_accuracy_ppm": requirements.class_accuracy_ppm,
            "warn_below_ppm": requirements.warn_below_ppm,
        },
    }
    subject = Subject(f"model/{canonical.check_name(model, what='model')}", package)
    statement = Statement(subjects=(subject,), predicate_type=PredicateType.TEST_RESULT, predicate=predicate)
    return Assessed(statement=statement, evaluation=evaluation, result=result)


def make_self_test(
    session: Session, inputs: Sequence[tuple[int, ...]], *, cases: int = 10, tolerance: int = DEFAULT_TOLERANCE
) -> bytes:
    """Return ``self-test.json``: rows of *inputs*, and what the model answers to them now.

    Rows are taken in order, one for each class before any class has two; a row whose two best answers lie within twice
    the tolerance is passed over, since another runtime may rightly decide otherwise.

    Args:
        tolerance: millionths.

    Raises:
        VerificationError: no row gets a clear answer, or answers are no numbers.
    """
    vectors = selftest.record(session, inputs, tolerance=tolerance)
    clear: dict[int, list[selftest.Case]] = {}
    for case in vectors.cases:
        best, *others = sorted(case.expect, reverse=True)
        if not others or best - others[0] > 2 * tolerance:
            clear.setdefault(case.label, []).append(case)
    deepest = max(map(len, clear.values()), default=0)
    ordered = [clear[label][n] for n in range(deepest) for label in sorted(clear) if n < len(clear[label])]
    if not ordered:
        raise VerificationError("the model gives no row a clear answer", code="model-output")
    return selftest.encode_vectors(selftest.Vectors(cases=tuple(ordered[:cases]), tolerance=tolerance))


def _ask(session: Session, rows: Sequence[tuple[int, ...]]) -> list[list[float]]:
    answers: list[list[float]] = []
    for at in range(0, len(rows), BATCH_ROWS):
        answers += session.run([[float(value) for value in row] for row in rows[at : at + BATCH_ROWS]])
    if not all(math.isfinite(score) for scores in answers for score in scores) or not all(answers):
        raise VerificationError("the model answers with what is no number", code="model-output")
    return answers


def _winner(scores: list[float]) -> int:
    """Return the class with the highest score; of equals, the first."""
    return scores.index(max(scores))


def _read(folder: Path, manifest: Manifest, name: str, *, max_bytes: int) -> bytes:
    data = read_file(folder / name, max_bytes=max_bytes)
    entry = manifest.file(name)
    if entry is None or entry.sha256 != Digest.of(data):
        raise VerificationError(f"{folder / name}: changed while it was read", code="input-altered")
    return data


def _judge(evaluation: Evaluation, requirements: Requirements) -> tuple[str, dict[str, list[str]]]:
    tests: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    accuracy = evaluation.accuracy_ppm
    if accuracy < requirements.accuracy_ppm:
        tests["failedTests"].append("accuracy")
    elif accuracy < requirements.warn_below_ppm:
        tests["warnedTests"].append("accuracy")
    else:
        tests["passedTests"].append("accuracy")
    for label, (asked, right) in evaluation.per_class.items():
        enough = right * MILLION // asked >= requirements.class_accuracy_ppm
        tests["passedTests" if enough else "failedTests"].append(f"class-{label}")
    result = "FAILED" if tests["failedTests"] else "WARNED" if tests["warnedTests"] else "PASSED"
    return result, tests


def _metrics(evaluation: Evaluation) -> dict[str, object]:
    return {
        "accuracy_ppm": evaluation.accuracy_ppm,
        "held_back": evaluation.count,
        "correct": evaluation.correct,
        "per_class": {
            str(label): {"count": asked, "correct": right, "accuracy_ppm": right * MILLION // asked}
            for label, (asked, right) in evaluation.per_class.items()
        },
    }
