# SPDX-License-Identifier: Apache-2.0
"""Attacks on the way from a proposal to the desired state: each ends in a refusal that says why."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chopmark.adapters.kms import file as kms
from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.channel.status import revocation
from chopmark.errors import ChopmarkError, DecodeError, Refused, VerificationError
from chopmark.keys import Algorithm
from chopmark.policy import Allowed, Denied, default_policy_file, read_vsa
from chopmark.release import Committer, desired, read_model, verify_range
from chopmark.release.wire import decode_model_release, encode_model_release, model_release
from chopmark.statements import (
    Envelope,
    add_signatures,
    decode_envelope,
    decode_statement,
    encode_envelope,
    sign,
    verify,
)
from simulators.trust import NOW, SimTrust
from unit.release.kit import Shop, chain, digest, inspection

BRANCH = "release/digits-1"
Start = Callable[[str], Shop]


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.found(tmp_path_factory.mktemp("founded"))


@pytest.fixture(scope="module")
def proposed(founded: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Version 1 on its branch, approved by nobody."""
    shop = founded.copy(tmp_path_factory.mktemp("proposed"))
    shop.propose(shop.draft())
    return shop


@pytest.fixture(scope="module")
def approved(proposed: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Version 1 on its branch, approved by two owners."""
    shop = proposed.copy(tmp_path_factory.mktemp("approved"))
    shop.approve(BRANCH, "owner-a")
    shop.approve(BRANCH, "owner-b")
    return shop


@pytest.fixture(scope="module")
def merged(approved: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Version 1 on main."""
    shop = approved.copy(tmp_path_factory.mktemp("merged"))
    shop.merge(BRANCH)
    return shop


@pytest.fixture
def start(founded: Shop, proposed: Shop, approved: Shop, merged: Shop, tmp_path: Path) -> Start:
    """Return a copy of the workspace at a stage of its life."""
    stages = {"founded": founded, "proposed": proposed, "approved": approved, "merged": merged}
    return lambda stage: stages[stage].copy(tmp_path)


def on_branch(shop: Shop, branch: str = BRANCH) -> Release:
    model = read_model(shop.git, shop.git.head(branch) or "", "digits", workspace="acme")
    assert model is not None
    return model.release


def envelope_of(shop: Shop, branch: str = BRANCH) -> Envelope:
    path = path_of(on_branch(shop, branch).digest)
    return decode_envelope(shop.git.read(shop.git.head(branch) or "", path, max_bytes=10**6) or b"")


def path_of(release: Digest) -> str:
    return f"envelopes/{release.hex}.json"


def refused(shop: Shop, branch: str = BRANCH) -> str:
    """Return the code that merging *branch* ends with: main stays where it was."""
    before = shop.main
    with pytest.raises(ChopmarkError) as caught:
        shop.merge(branch)
    assert shop.main == before
    return caught.value.code


def test_one_approver_alone_is_refused_naming_rule_fact_and_what_is_missing(start: Start) -> None:
    shop = start("proposed")
    shop.approve(BRANCH, "owner-a")
    before = shop.main
    merged = shop.merge(BRANCH)
    decision = merged.checked.decision
    assert isinstance(decision, Denied)
    (verdict,) = decision.failed
    assert (verdict.id, verdict.message) == ("needs-two-approvers", "owner-a signed; owner-b or owner-c missing")
    assert (merged.commit, shop.main) == (None, before)
    logged = read_vsa(verify(shop.ledger.envelopes[-1], shop.trust, "gate").statement)
    assert (logged.passed, logged.release, logged.approvals) == (False, on_branch(shop).digest, ("owner-a",))
    assert len(logged.inputs) == 8


def test_a_revoked_package_cannot_come_back_under_another_version(start: Start) -> None:
    shop = start("merged")
    package = shop.draft().manifest
    revoked = revocation(
        workspace="acme", model="digits", kind="manifest", digest=package, reason="backdoor", since=NOW
    )
    keys = [key for owner in ("security-a", "security-b") for key in shop.people.keys(owner)]
    shop.ledger.log(sign(revoked, keys))
    proposal = shop.propose(shop.draft("2", manifest=package))
    assert isinstance(proposal.decision, Denied)
    assert [verdict.id for verdict in proposal.decision.failed] == ["not-revoked"]
    assert shop.git.head("release/digits-2") is None


def test_one_owner_with_both_keys_twice_is_one_owner(start: Start) -> None:
    shop = start("approved")
    with pytest.raises(ChopmarkError) as caught:
        shop.approve(BRANCH, "owner-a")
    assert caught.value.code == "already-signed"


def test_half_a_hybrid_is_no_approval(start: Start) -> None:
    shop = start("proposed")
    shop.approve(BRANCH, "owner-a")
    with pytest.raises(ChopmarkError, match=r"owner-b lacks ml-dsa-65"):
        shop.approve(BRANCH, "owner-b", signers=shop.people.keys("owner-b")[:1])
    half = add_signatures(envelope_of(shop), shop.people.keys("owner-b")[:1])
    shop.write(BRANCH, {path_of(on_branch(shop).digest): encode_envelope(half)})
    decision = shop.check(BRANCH).decision
    assert isinstance(decision, Denied)
    assert decision.failed[0].message == "owner-a signed; owner-b lacks ml-dsa-65; owner-b or owner-c missing"


def test_a_gate_or_maintainer_key_approves_nothing(start: Start) -> None:
    shop = start("proposed")
    for owner in ("gate", "security-a"):
        with pytest.raises(ChopmarkError, match="nobody signed"):
            shop.approve(BRANCH, owner)
    forged = add_signatures(envelope_of(shop), shop.people.keys("gate", "security-a", "security-b"))
    shop.write(BRANCH, {path_of(on_branch(shop).digest): encode_envelope(forged)})
    assert isinstance(shop.check(BRANCH).decision, Denied)


def test_a_payload_edited_after_approval_is_refused(start: Start) -> None:
    shop = start("approved")
    release, signed = on_branch(shop), envelope_of(shop)
    data = shop.git.read(shop.git.head(BRANCH) or "", "models/digits.yaml", max_bytes=10**6) or b""
    edited = data.replace(str(release.manifest).encode(), str(digest("another package")).encode())
    shop.write(BRANCH, {"models/digits.yaml": edited})
    assert refused(shop) == "release-altered"
    model = decode_model_release(edited, workspace="acme")
    moved = {path_of(release.digest): None, path_of(model.release.digest): encode_envelope(signed)}
    shop.write(BRANCH, moved)
    assert refused(shop) == "undecodable", "the signed envelope under the edited file's name"
    swapped = Envelope(payload=model.payload, signatures=signed.signatures)
    shop.write(BRANCH, {path_of(model.release.digest): encode_envelope(swapped)})
    assert refused(shop) == "vsa-unconfirmed", "signatures over other bytes, evidence about another package"


def test_the_same_edit_pushed_to_main_is_not_desired(start: Start) -> None:
    shop = start("merged")
    data = shop.git.read(shop.main, "models/digits.yaml", max_bytes=10**6) or b""
    shop.write("main", {"models/digits.yaml": data.replace(b"epoch: 1", b"epoch: 2")})
    with pytest.raises(VerificationError) as caught:
        desired(shop.git, shop.main, trust=shop.trust, workspace="acme")
    assert caught.value.code == "envelope-missing"


@pytest.mark.parametrize("change", [{"model": "faces"}, {"channels": ("beta",)}])
def test_an_approval_of_another_model_or_channel_is_refused(start: Start, change: dict[str, object]) -> None:
    """Signatures over one release are put on another, under its name."""
    shop = start("merged")
    release, signed = on_branch(shop, "main"), envelope_of(shop, "main")
    other = model_release(replace(release, **change), policy="default")
    stolen = Envelope(payload=other.payload, signatures=signed.signatures)
    name = other.release.model
    files: dict[str, bytes | None] = {
        f"models/{name}.yaml": encode_model_release(other),
        path_of(other.release.digest): encode_envelope(stolen),
        "channels/beta.yaml": b"kind: Channel\nmetadata: {name: beta}\nspec: {rings: []}\n",
    }
    commit = shop.write("stolen", files)
    with pytest.raises(VerificationError) as caught:
        desired(shop.git, commit, trust=shop.trust, workspace="acme")
    assert caught.value.code == "release-unapproved"


def test_an_envelope_of_another_workspace_is_no_fallback_and_no_release_here(start: Start, tmp_path: Path) -> None:
    """The same owners approve in both workspaces; what they said in one is not said in the other."""
    shop = start("founded")
    elsewhere = SimTrust(workspace="other")
    elsewhere.signers = shop.people.signers
    elsewhere.policy = replace(shop.trust, workspace="other")
    there = Shop.found(tmp_path / "other", trust=elsewhere).release().checked
    data = encode_envelope(there.envelope)
    shop.write("main", {path_of(there.release.digest): data})
    with pytest.raises(VerificationError, match="workspace other"):
        shop.propose(shop.draft("2", fallbacks=(there.release.digest,)))
    assert shop.release("3").checked.release.counter == 1, "nor does its counter count"


def test_an_approver_who_may_not_approve_for_a_channel_is_refused(start: Start) -> None:
    shop = start("proposed")
    approver = replace(shop.trust.role("approver"), channels=("beta*",))
    shop.trust = replace(shop.trust, roles={**shop.trust.roles, "approver": approver})
    with pytest.raises(VerificationError, match="may not approve for channel production"):
        shop.approve(BRANCH, "owner-a")
    assert refused(shop) == "statement-forbidden"


def test_a_commit_by_an_unknown_signer_is_refused(start: Start, tmp_path: Path) -> None:
    shop = start("approved")
    stranger = tmp_path / "stranger"
    kms.export_openssh(kms.generate(Algorithm.ED25519), stranger)
    shop.git.commit(
        BRANCH,
        {path_of(on_branch(shop).digest): encode_envelope(envelope_of(shop)) + b"\n"},
        parent=shop.git.head(BRANCH),
        message="Harmless",
        by=Committer(name="maintainer", email="maintainer@acme", key=stranger),
        at=NOW,
    )
    assert refused(shop) == "commit-untrusted"


def test_a_branch_that_was_set_back_or_rewritten_is_noticed(start: Start) -> None:
    shop = start("approved")
    first = shop.main
    applied = shop.merge(BRANCH).commit or ""
    git = ["git", "-C", str(shop.git.folder)]
    subprocess.run([*git, "update-ref", "refs/heads/main", first], check=True)
    with pytest.raises(VerificationError) as caught:
        verify_range(shop.git, since=applied, to=shop.main, trust=shop.trust)
    assert (caught.value.code, caught.value.evidence["since"]) == ("history-rewritten", applied)
    with pytest.raises(VerificationError):
        verify_range(shop.git, since="1" * 40, to=shop.main, trust=shop.trust)


def test_a_proposal_that_brings_its_own_policy_is_refused(start: Start) -> None:
    shop = start("approved")
    weak = default_policy_file().replace(b"size(approvals) >= 2", b"size(approvals) >= 1")
    shop.write(BRANCH, {"policies/default.yaml": weak})
    assert refused(shop) == "proposal-foreign"


@pytest.mark.parametrize("path", ["trust/1.trust.json", "channels/production.yaml", ".gitattributes", "models/b.yaml"])
def test_a_proposal_that_changes_anything_else_is_refused(start: Start, path: str) -> None:
    shop = start("approved")
    shop.write(BRANCH, {path: b"x"})
    assert refused(shop) in {"proposal-foreign", "usage"}


def test_no_policy_lowers_what_trust_asks_for(tmp_path: Path) -> None:
    weak = default_policy_file().replace(b"size(approvals) >= 2", b"size(approvals) >= 1")
    shop = Shop.found(tmp_path, policy=weak)
    shop.propose(shop.draft())
    shop.approve(BRANCH, "owner-a")
    logged = len(shop.ledger.envelopes)
    with pytest.raises(Refused) as caught:
        shop.merge(BRANCH)
    assert caught.value.code == "release-unapproved"
    assert len(shop.ledger.envelopes) == logged, "and no decision says PASSED"


def test_a_policy_that_errs_denies(tmp_path: Path) -> None:
    broken = default_policy_file().replace(b"size(approvals) >= 2", b"approvals[7] != 'nobody'")
    shop = Shop.found(tmp_path, policy=broken)
    shop.propose(shop.draft())
    decision = shop.check(BRANCH).decision
    assert isinstance(decision, Denied)
    assert "could not be evaluated" in decision.failed[0].message


def test_a_text_that_ends_early_in_the_engine_is_no_statement(tmp_path: Path) -> None:
    """CEL's engine is C++: ``PASSED`` and a null character is ``PASSED`` to it, and to nobody else."""
    payload = b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"result":"PASSED\\u0000, not"},'
    payload += b'"predicateType":"https://in-toto.io/attestation/test-result/v0.1",'
    payload += b'"subject":[{"digest":{"sha256":"' + b"ab" * 32 + b'"},"name":"model/digits"}]}'
    with pytest.raises(DecodeError):
        decode_statement(payload)
    assert decode_statement(payload.replace(b"\\u0000", b"")).predicate == {"result": "PASSED, not"}


@pytest.mark.parametrize(
    "text",
    [
        b"kind: ModelRelease\nkind: ModelRelease\n",
        b"kind: &k ModelRelease\nmetadata: {name: *k}\n",
        b"kind: !!python/name:os.system ''\n",
        b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        b"kind: ModelRelease\n---\nkind: ModelRelease\n",
    ],
)
def test_yaml_that_two_readers_could_read_differently_is_refused(start: Start, text: bytes) -> None:
    shop = start("approved")
    shop.write(BRANCH, {"models/digits.yaml": text})
    with pytest.raises(DecodeError):
        shop.check(BRANCH)


def test_a_gate_that_lies_convinces_no_approver(start: Start) -> None:
    """A stolen gate key signs PASSED over evidence that does not suffice, and proposes it."""
    shop = start("merged")
    draft = shop.draft("2")
    shop.record("inspector", inspection(draft.manifest, "Lambda layer"))
    denied = shop.propose(draft)
    assert isinstance(denied.decision, Denied)
    lying = verify(shop.ledger.envelopes[-1], shop.trust, "gate").statement
    said = {**lying.predicate, "verificationResult": "PASSED", "verifiedLevels": ["CHOPMARK_EVIDENCE"]}
    said["rules"] = [{**rule, "ok": True, "message": ""} for rule in said["rules"]]  # type: ignore[union-attr]
    vsa = shop.record("gate", replace(lying, predicate=said))
    good = on_branch(shop, "main")  # to borrow the form of a release from
    inputs = read_vsa(replace(lying, predicate=said)).inputs
    forged = model_release(
        replace(good, version="2", manifest=draft.manifest, counter=2, vsa=vsa.digest, evidence=inputs),
        policy="default",
    )
    digest_ = forged.release.digest
    files = {path_of(digest_): encode_envelope(Envelope(payload=forged.payload))}
    shop.write("release/forged", {**files, "models/digits.yaml": encode_model_release(forged)})
    with pytest.raises(VerificationError, match="the opposite") as caught:
        shop.approve("release/forged", "owner-a")
    assert caught.value.code == "vsa-unconfirmed"
    assert refused(shop, "release/forged") == "vsa-unconfirmed"


def test_a_gate_that_hides_the_bad_statement_convinces_no_approver(start: Start) -> None:
    """The gate proposes before the finding is logged, or leaves it out: who approves looks at the whole ledger."""
    shop = start("proposed")
    shop.record("inspector", inspection(on_branch(shop).manifest, "Lambda layer"))
    with pytest.raises(VerificationError, match="inspected"):
        shop.approve(BRANCH, "owner-a")


def test_a_release_that_names_no_logged_decision_is_refused(start: Start) -> None:
    shop = start("proposed")
    vsa = on_branch(shop).vsa
    shop.ledger.envelopes = [envelope for envelope in shop.ledger.envelopes if envelope.digest != vsa]
    with pytest.raises(VerificationError) as caught:
        shop.approve(BRANCH, "owner-a")
    assert caught.value.code == "vsa-missing"


def test_statements_by_the_wrong_role_are_no_evidence(start: Start) -> None:
    shop = start("founded")
    draft = shop.draft()
    package = digest("unproven")
    for owner, statement in chain(package):
        if owner in {"tester", "inspector"}:
            shop.record("builder", statement)
    decision = shop.propose(replace(draft, manifest=package)).decision
    assert isinstance(decision, Denied)
    assert len(decision.failed) == 7


def test_a_reverted_counter_is_not_free_again(start: Start) -> None:
    """A revert by hand takes the envelope of counter 2 away; the ledger still knows it."""
    shop = start("merged")
    shop.release("2")
    run = ["git", "-C", str(shop.git.folder), "-c", "user.name=m", "-c", "user.email=m@x"]
    subprocess.run([*run, "revert", "--no-edit", "-m", "1", "HEAD"], check=True, capture_output=True)
    third = shop.propose(shop.draft("3")).release
    assert third is not None
    assert third.counter == 3


def test_what_is_merged_is_what_was_checked(start: Start) -> None:
    shop = start("approved")
    merged = shop.merge(BRANCH)
    assert isinstance(merged.checked.decision, Allowed)
    found = desired(shop.git, merged.commit or "", trust=shop.trust, workspace="acme")
    assert list(found.releases) == [on_branch(shop).digest]
    verify_range(shop.git, since=None, to=shop.main, trust=shop.trust)
