# SPDX-License-Identifier: Apache-2.0
"""The figures themselves: that each can be made, is explained, and is compared with something that does the same."""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path

import pytest
from bench import ROOT, by_hand, policy
from bench.__main__ import main
from bench.measure import Bench, Timing, Unavailable, meets
from bench.table import BENCHES

from chopmark.policy import Phase, decide
from chopmark.statements import PredicateType
from unit.policy.facts import fact
from unit.release.kit import statement


def once(ours, floor, **_: object) -> Timing:
    ours()
    floor()
    return Timing(ours_s=2, floor_s=1, ratio=2)


@pytest.mark.slow
@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_every_figure_can_be_made(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[bench.run.__module__]
    monkeypatch.setattr(module, "in_turns", once)
    for size in ("MEDIUM", "LARGE", "HUGE", "TWENTY"):
        monkeypatch.setattr(module, size, 5000, raising=False)
    try:
        made = bench.measure(tmp_path)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert made.name == bench.name


def test_every_figure_has_a_name_of_its_own_and_a_goal_that_can_be_read() -> None:
    assert len({bench.name for bench in BENCHES}) == len(BENCHES)
    assert all(meets(1, bench.goal) in {True, False} for bench in BENCHES if bench.goal)


def test_every_figure_is_explained() -> None:
    page = (ROOT / "docs" / "reference" / "bench.md").read_text(encoding="utf-8")
    for bench in BENCHES:
        row = next((line for line in page.splitlines() if line.startswith(f"| `{bench.name}` |")), None)
        assert row is not None, f"bench.md does not explain {bench.name}"
        assert f"| {bench.goal or '–'} |" in row, f"bench.md names another goal for {bench.name}"


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some" / "bench.json"
    assert main(["--only", "signing.verify", "--json", str(path)]) == 0
    headings, *rows = capsys.readouterr().out.splitlines()
    assert headings.split() == ["figure", "value", "floor", "unit", "ratio", "goal", "met"]
    (figure,) = json.loads(path.read_text(encoding="utf-8"))
    assert list(figure) == ["name", "value", "unit", "floor", "ratio", "goal", "met"]
    assert [row.split()[0] for row in rows] == [figure["name"]] == ["signing.verify_envelope"]
    assert figure["value"] > figure["floor"] > 0


def test_a_prefix_of_nothing_is_a_fault_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "nothing"])
    assert stopped.value.code == 2
    assert "ledger.append_single" in capsys.readouterr().err


def test_the_rules_by_hand_are_the_same_rules() -> None:
    """Whichever fact is left out, of the first eight, or if a revocation comes in: the twelve verdicts are the same."""
    rules, facts, candidate = policy.twelve_rules(), policy.fifty_facts()[:8], policy.candidate()
    assert len(rules.rules) == 12
    revoked = fact("security-a security-b", statement(PredicateType.REVOCATION, policy.PACKAGE, {}), 99)
    for some in [*combinations(facts, 7), (*facts, revoked)]:
        decision = decide(rules, Phase.EVIDENCE, facts=some, candidate=candidate)
        found = by_hand.verdicts([fact.view() for fact in some], candidate.view(Phase.EVIDENCE))
        assert found == [verdict.ok for verdict in decision.verdicts]
        assert not all(found)
