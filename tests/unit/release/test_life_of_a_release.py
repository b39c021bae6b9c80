# SPDX-License-Identifier: Apache-2.0
"""A release from proposal to desired state and back, over a real repository."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chopmark.artifacts import Digest
from chopmark.channel import Assignment, Release, decode_release
from chopmark.errors import DecodeError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.policy import Allowed, Denied, Phase, Undecidable, read_vsa
from chopmark.release import (
    Channel,
    Desired,
    Ring,
    desired,
    empty_channel,
    encode_channel,
    plan,
    plan_withdrawal,
    verify_range,
    withdraw,
)
from chopmark.statements import decode_envelope, verify
from simulators.trust import NOW
from unit.release.kit import Shop, digest, inspection, result_of


def wanted(shop: Shop) -> Desired:
    return desired(shop.git, shop.main, trust=shop.trust, workspace="acme")


def current(shop: Shop) -> Release:
    (assignment,) = wanted(shop).channels["production"]
    return wanted(shop).releases[assignment.release].release


def test_a_release_is_proposed_approved_checked_and_merged(shop: Shop) -> None:
    proposal = shop.propose(shop.draft())
    assert isinstance(proposal.decision, Allowed)
    assert proposal.release is not None
    assert (proposal.branch, proposal.release.counter) == ("release/digits-1", 1)
    assert shop.approve(proposal.branch, "owner-a").approvals.counted == ("owner-a",)
    assert shop.approve(proposal.branch, "owner-c").approvals.counted == ("owner-a", "owner-c")
    merged = shop.merge(proposal.branch)
    assert merged.commit == shop.main
    found = wanted(shop)
    whole = Assignment(model="digits", runtime="onnxruntime", first=0, end=10_000, release=proposal.release.digest)
    assert found.channels == {"production": (whole,)}
    assert decode_release(decode_envelope(found.releases[whole.release].envelope).payload) == proposal.release
    assert (shop.folder / "release" / "models" / "digits.yaml").exists(), "the work tree shows what main says"


def test_what_was_done_already_is_said_to_be(shop: Shop) -> None:
    branch = shop.propose(shop.draft()).branch
    shop.approve(branch, "owner-a")
    for again in (lambda: shop.approve(branch, "owner-a"), lambda: shop.approve("release/none-1", "owner-a")):
        with pytest.raises(UsageError) as caught:
            again()
        assert (caught.value.code, bool(caught.value.hint)) in {("already-signed", True), ("branch-missing", True)}
    shop.approve(branch, "owner-c")
    shop.merge(branch)
    for again in (lambda: shop.merge(branch), lambda: shop.approve(branch, "owner-b")):
        with pytest.raises(UsageError) as caught:
            again()
        assert caught.value.code == "already-merged"


def test_what_a_withdrawal_would_do_is_what_it_does(busy: Shop) -> None:
    planned = plan_withdrawal("digits", host=busy.git, trust=busy.trust)
    before = busy.main
    done = withdraw("digits", host=busy.git, trust=busy.trust, by=busy.by("maintainer"), at=NOW, reason="")
    assert before == planned.base
    assert (done.release, done.fallback) == (planned.release, planned.fallback)


def back(shop: Shop) -> str:
    return withdraw(
        "digits", host=shop.git, trust=shop.trust, by=shop.by("maintainer"), at=NOW, reason=""
    ).fallback.version


def test_one_goes_back_as_far_as_the_newest_release_names_and_not_before_the_first(busy: Shop) -> None:
    first, second = current(busy).fallbacks[0], current(busy).digest
    busy.release("3", fallbacks=(second, first))
    assert [back(busy), back(busy)] == ["2", "1"]
    with pytest.raises(UsageError, match="1 is the first release"):
        back(busy)


def test_nobody_goes_back_to_what_devices_would_refuse(busy: Shop) -> None:
    busy.release("3", fallbacks=(current(busy).digest,))
    assert back(busy) == "2"
    with pytest.raises(VerificationError, match="approvers of 3 named") as caught:
        back(busy)
    assert caught.value.code == "fallback-unapproved"


def test_both_decisions_are_logged_and_only_the_first_is_named(shop: Shop) -> None:
    merged = shop.release()
    release = merged.checked.release
    vsas = {}
    for _, envelope in shop.ledger.statements():
        if envelope.digest in (release.vsa, merged.checked.vsa):
            vsas[envelope.digest] = read_vsa(verify(envelope, shop.trust, "gate").statement)
    first, second = vsas[release.vsa], vsas[merged.checked.vsa]
    assert (first.phase, first.passed, first.release) == (Phase.EVIDENCE, True, None)
    assert (second.phase, second.passed, second.release) == (Phase.APPROVAL, True, release.digest)
    assert second.approvals == ("owner-a", "owner-b")
    assert first.inputs == release.evidence
    assert len(first.inputs) == 8
    assert shop.ledger.envelopes[-1].digest == release.digest, "the approved envelope itself is logged"


def test_denied_evidence_is_logged_and_makes_no_branch(shop: Shop) -> None:
    draft = shop.draft()
    shop.record("tester", result_of(draft.manifest, result="FAILED"))
    proposal = shop.propose(draft)
    assert isinstance(proposal.decision, Denied)
    assert [verdict.id for verdict in proposal.decision.failed] == ["tested"]
    assert (proposal.release, shop.git.head("release/digits-1")) == (None, None)
    logged = read_vsa(verify(shop.ledger.envelopes[-1], shop.trust, "gate").statement)
    assert (shop.ledger.envelopes[-1].digest, logged.passed) == (proposal.vsa, False)


def test_without_a_ledger_nothing_is_decided(shop: Shop) -> None:
    draft = shop.draft()
    shop.ledger.down = True
    proposal = shop.propose(draft)
    assert isinstance(proposal.decision, Undecidable)
    assert proposal.vsa is None
    shop.ledger.down = False
    branch = shop.propose(draft).branch
    shop.ledger.down = True
    with pytest.raises(UndecidedError):
        shop.approve(branch, "owner-a")
    assert isinstance(shop.check(branch).decision, Undecidable)
    assert shop.merge(branch).commit is None


def test_counters_rise_by_one_and_fallbacks_must_be_approved(busy: Shop) -> None:
    shop, second = busy, current(busy)
    assert second.counter == 2
    assert set(wanted(shop).releases) == {second.digest, *second.fallbacks}, "fallbacks come along"
    with pytest.raises(VerificationError, match="fallback") as caught:
        shop.propose(shop.draft("3", fallbacks=(digest("unknown"),)))
    assert caught.value.code == "fallback-unapproved"
    lower = shop.propose(shop.draft("3", counter=2))
    shop.approve(lower.branch, "owner-a")
    shop.approve(lower.branch, "owner-b")
    checked = shop.check(lower.branch)
    assert isinstance(checked.decision, Denied)
    assert [v.message for v in checked.decision.failed] == ["counter 2 is not above 2, that of the newest release"]


def test_withdraw_reverts_to_a_named_fallback_and_frees_no_counter(busy: Shop) -> None:
    shop, second = busy, current(busy)
    (first,) = second.fallbacks
    taken = withdraw(
        "digits", host=shop.git, trust=shop.trust, by=shop.by("operator"), at=NOW, reason="wrong on\nsevens"
    )
    assert (taken.release, taken.fallback.digest, taken.commit) == (second, first, shop.main)
    assert wanted(shop).channels["production"][0].release == first
    subject = verify_range(shop.git, since=None, to=shop.main, trust=shop.trust)[-1].subject
    assert subject == 'Revert "Release digits 2"'
    with pytest.raises(UsageError) as caught:
        withdraw("digits", host=shop.git, trust=shop.trust, by=shop.by("operator"), at=NOW, reason="")
    assert caught.value.code == "no-fallback", "a second revert does not go forward again"
    assert shop.release("3").checked.release.counter == 3


def test_withdraw_refuses_what_no_approver_named(shop: Shop) -> None:
    with pytest.raises(UsageError, match="no release"):
        withdraw("digits", host=shop.git, trust=shop.trust, by=shop.by("operator"), at=NOW, reason="")
    shop.release("1")
    with pytest.raises(UsageError, match="first release"):
        withdraw("digits", host=shop.git, trust=shop.trust, by=shop.by("operator"), at=NOW, reason="")
    shop.release("2")
    before = shop.main
    with pytest.raises(VerificationError, match="none of the fallbacks"):
        withdraw("digits", host=shop.git, trust=shop.trust, by=shop.by("operator"), at=NOW, reason="")
    assert shop.main == before


def test_rings_say_everything_about_a_model(busy: Shop) -> None:
    shop, second = busy, current(busy)
    (first,) = second.fallbacks
    rings = (Ring(model="digits", first=0, end=500), Ring(model="digits", release=first))
    shop.write("main", {"channels/production.yaml": encode_channel(Channel(name="production", rings=rings))})
    found = [(a.first, a.end, a.release) for a in wanted(shop).channels["production"]]
    assert found == [(0, 500, second.digest), (0, 10_000, first)]


def test_a_release_is_not_assigned_to_a_channel_it_was_not_approved_for(busy: Shop) -> None:
    shop = busy
    ring = Ring(model="digits", release=current(shop).digest)
    shop.write("main", {"channels/beta.yaml": encode_channel(Channel(name="beta", rings=(ring,)))})
    with pytest.raises(Refused) as caught:
        wanted(shop)
    assert caught.value.code == "release-misdirected"


def test_a_state_that_is_empty_or_unreadable_is_refused(busy: Shop) -> None:
    shop = busy
    bad: list[tuple[dict[str, bytes | None], str]] = [
        ({"models/digits.yaml": None}, "assigns no release"),
        ({"channels/production.yaml": None}, "no file"),
        ({"models/digits.yaml": b"kind: ModelRelease"}, "ModelRelease"),
        ({"channels/production.yaml": b"kind: [Channel"}, "not YAML"),
        ({"channels/other.yaml": empty_channel("production")}, "is about production"),
        ({"models/README": b""}, "empty file"),
    ]
    for n, (files, message) in enumerate(bad):
        commit = shop.write(f"bad-{n}", files)
        with pytest.raises(VerificationError, match=message):
            desired(shop.git, commit, trust=shop.trust, workspace="acme")


def test_the_first_state_is_empty(shop: Shop) -> None:
    with pytest.raises(VerificationError) as caught:
        wanted(shop)
    assert caught.value.code == "desired-empty"
    with pytest.raises(Refused, match=r"trust\.json is that of acme"):
        desired(shop.git, shop.main, trust=shop.trust, workspace="other")


def test_plan_says_what_changes(released: Shop) -> None:
    found = wanted(released)
    (now,) = found.channels["production"]
    assert [(c.before, c.after) for c in plan(found, {}).changes] == [((), (now,))]
    assert plan(found, {"production": (now,)}).changes == ()
    other = Assignment(model="gone", runtime="onnxruntime", first=0, end=10_000, release=digest("x"))
    removal = plan(found, {"production": (now, other)})
    assert [change.model for change in removal.removals] == ["gone"]


def test_new_evidence_after_the_proposal_counts(shop: Shop) -> None:
    draft = shop.draft()
    branch = shop.propose(draft).branch
    shop.approve(branch, "owner-a")
    shop.record("inspector", inspection(draft.manifest, "custom operator"))
    with pytest.raises(VerificationError, match="inspected") as caught:
        shop.approve(branch, "owner-b")
    assert caught.value.code == "evidence-denied"
    checked = shop.check(branch)
    assert isinstance(checked.decision, Denied)
    assert checked.decision.phase is Phase.EVIDENCE
    assert shop.merge(branch).commit is None


def test_a_proposal_is_refused_where_main_has_moved_under_it(shop: Shop) -> None:
    stale = shop.propose(shop.draft("2")).branch
    shop.release("1")
    with pytest.raises(UsageError) as caught:
        shop.approve(stale, "owner-a")
    assert caught.value.code == "proposal-stale"
    with pytest.raises(UsageError, match="exists"):
        shop.propose(shop.draft("2"))


def test_a_draft_that_no_release_can_be_is_refused_before_anything_is_logged(shop: Shop) -> None:
    draft = shop.draft()
    logged = len(shop.ledger.envelopes)
    bad: list[dict[str, object]] = [
        {"version": "../main"},
        {"version": ""},
        {"version": "1.lock"},
        {"model": "Digits"},
        {"channels": ()},
        {"channels": ("production", "production")},
        {"counter": 0},
        {"epoch": 0},
        {"counter": 2**53},
    ]
    for changes in bad:
        with pytest.raises(DecodeError):
            shop.propose(replace(draft, **changes))
    assert len(shop.ledger.envelopes) == logged


def test_a_release_survives_a_merge_that_was_cut_short(shop: Shop) -> None:
    branch = shop.propose(shop.draft()).branch
    shop.approve(branch, "owner-a")
    shop.approve(branch, "owner-b")
    shop.ledger.log(shop.check(branch).envelope)
    assert shop.merge(branch).commit == shop.main
    assert wanted(shop).releases


def test_the_release_hash_is_that_of_the_signed_payload(released: Shop) -> None:
    shop, release = released, current(released)
    data = shop.git.read(shop.main, f"envelopes/{release.digest.hex}.json", max_bytes=100_000)
    assert Digest.of(decode_envelope(data or b"").payload) == release.digest
