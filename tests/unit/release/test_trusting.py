# SPDX-License-Identifier: Apache-2.0
"""A change of trust in a repository: what it would stop, its one commit, and operator and devices that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from attacks.test_operator import ANYTHING, Yard
from chopmark.adapters.git.local import LocalGit
from chopmark.artifacts import Digest
from chopmark.channel.publish import Lifetimes, Publisher, publish_root
from chopmark.channel.status import StatusHost
from chopmark.errors import ChopmarkError, MovedError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.release import approve_again
from chopmark.release.live import live_releases
from chopmark.release.reconcile import Operator
from chopmark.release.trusting import TARGETS_PATH, Applied, apply, losing, root_path
from chopmark.release.workspace import Workspace
from chopmark.trust import RetiredFor, edit
from chopmark.trust.change import Proposal, Wanted
from simulators import NOW, SimFollower, SimTrust
from simulators.ceremony import SimCeremony, new_keys
from unit.release.kit import Shop


@dataclass
class Change(Yard):
    """A yard whose owners change what governs, by its repository."""

    def __post_init__(self) -> None:
        super().__post_init__()
        people = self.shop.people
        self.ceremony = SimCeremony(people)
        publish_root(self.store, people.root, people.trust)
        files = {root_path(1): people.root.data, "trust/1.trust.json": people.trust, TARGETS_PATH: people.targets}
        self.shop.write("main", dict(files))
        self.status_keys: tuple[Any, ...] = people.keys("status-host")

    @property
    def workspace(self) -> Workspace:
        return Workspace(
            folder=self.folder,
            name="acme",
            pin=self.shop.people.pin,
            repository=self.shop.folder / "release",
            state=self.folder,
            channel="production",
            service_url="",
            security_url="",
            witness_urls={},
        )

    def apply(self, *proposals: Proposal, host: LocalGit | None = None, **options: Any) -> Applied:
        people = self.shop.people
        return apply(
            proposals,
            standing=self.ceremony.standing,
            host=host or self.shop.git,
            by=self.shop.by("maintainer"),
            committer_keys=[s.public.keyid for s in people.signers["maintainer"]],
            now=NOW,
            **options,
        )

    def change(self, wanted: Wanted, *owners: str, **options: Any) -> Applied:
        """Propose *wanted*, have *owners* sign it, apply it; from then on it governs here."""
        proposal = self.ceremony.signed(wanted, *owners)
        done = self.apply(proposal, **options)
        self.ceremony.adopt(proposal)
        self.shop.trust = self.ceremony.standing.trust
        return done

    def host_of_today(self) -> StatusHost:
        return StatusHost(
            folder=self.folder / "security",
            trust=self.ceremony.standing.trust,
            signers=self.status_keys,
            clock=self.clock,
            interval=timedelta(hours=4),
        )

    def operator_of_today(self) -> Operator:
        """The operator, opened as a workspace's is."""
        workspace = self.workspace
        root, trust = workspace.trusted()
        publisher = Publisher(
            store=self.store,
            root=root,
            channel="production",
            signers=self.shop.people.keys("operator"),
            prove=self.shop.people.log.prove,
            lifetimes=Lifetimes(),
            roots=workspace.root_files(),
        )
        return Operator(
            git=self.shop.git,
            root=root,
            trust=trust,
            channel="production",
            targets=workspace.targets.read_bytes(),
            store=self.store,
            publisher=publisher,
            blobs=self.blobs,
            fetch_status=lambda: self.host_of_today().current(),
            status_file=self.folder / "operator.json",
            clock=self.clock,
        )

    def follower(self) -> SimFollower:
        from attacks.test_operator import _Served

        people = self.shop.people
        return SimFollower(_Served(self.store), root=people.first, pin=people.pin)


@pytest.fixture
def yard(tmp_path: Path) -> Change:
    return Change(Shop.found(tmp_path / "shop", trust=SimTrust(), policy=ANYTHING), tmp_path)


def longer(yard: Change, days: int = 500) -> Wanted:
    return replace(yard.ceremony.start, expires=NOW + timedelta(days=days))


def retire(wanted: Wanted, owner: str) -> Wanted:
    return edit.remove_owner(wanted, owner, reason=RetiredFor.COMPROMISED, until=0, log="log.acme/m")


def refused(call: Callable[[], object], code: str) -> ChopmarkError:
    with pytest.raises(ChopmarkError) as error:
        call()
    assert error.value.code == code, error.value
    return error.value


# What it would stop


def test_exactly_the_releases_that_lean_on_a_key_are_listed(yard: Change) -> None:
    first = yard.release("1")
    second = yard.release("2", first)
    live = live_releases(yard.shop.git, yard.shop.main, workspace="acme")
    assert {one.release.digest: one.uses for one in live} == {
        second: ("production",),
        first: (f"fallback of {second.short}…",),
    }
    again = approve_again(
        second,
        host=yard.shop.git,
        log=yard.shop.ledger,
        trust=yard.shop.trust,
        signers=yard.shop.people.keys("owner-c"),
        by=yard.shop.by("maintainer"),
        at=NOW,
    )[0]
    assert again.approvals.counted == ("owner-a", "owner-b", "owner-c")
    wanted = retire(yard.ceremony.start, "owner-a")
    live = live_releases(yard.shop.git, yard.shop.main, workspace="acme")
    lost = losing(live, yard.shop.trust, wanted.trust)
    assert [one.live.release.digest for one in lost] == [first]
    assert "owner-b" in lost[0].reason
    error = refused(lambda: yard.change(wanted, "owner-b", "owner-c"), "releases-would-stop")
    assert [one["version"] for one in error.evidence["releases"]] == ["1"]  # type: ignore[attr-defined]
    assert "digits 1 (fallback of " in error.message
    yard.change(wanted, "owner-b", "owner-c", stop_releases=True)


def test_signing_again_adds_approvers_and_nobody_else(yard: Change) -> None:
    first = yard.release("1")
    people, trust = yard.shop.people, yard.shop.trust
    for keys in (people.keys("owner-a"), people.keys("gate"), new_keys()):
        refused(
            lambda keys=keys: approve_again(  # type: ignore[misc]
                first,
                host=yard.shop.git,
                log=yard.shop.ledger,
                trust=trust,
                signers=keys,
                by=yard.shop.by("maintainer"),
                at=NOW,
            ),
            "not-an-approver",
        )


# Its commit


def test_three_files_in_one_commit_that_says_what_changed(yard: Change) -> None:
    before = yard.shop.main
    done = yard.change(edit.change_role(longer(yard), "approver", k=3), "owner-a", "owner-c")
    assert yard.shop.git.changed(before, done.commit) == (root_path(2), "trust/2.trust.json", TARGETS_PATH)
    root, policy = yard.workspace.trusted()
    assert (root.version, policy.role("approver").k) == (2, 3)
    assert list(yard.workspace.root_files()) == [
        "metadata/1.trust.json",
        "metadata/1.root.json",
        "metadata/2.trust.json",
        "metadata/2.root.json",
    ]


def test_of_two_changes_at_once_one_wins(yard: Change) -> None:
    one = yard.ceremony.signed(longer(yard, 400), "owner-a", "owner-b")
    other = yard.ceremony.signed(longer(yard, 401), "owner-b", "owner-c")
    first = yard.apply(one)
    with pytest.raises(MovedError) as caught:
        yard.apply(other)
    assert "git restore" in caught.value.hint
    assert yard.shop.main == first.commit
    assert yard.workspace.trusted()[0].digest == first.accepted.root.digest


def test_an_incomplete_proposal_changes_nothing(yard: Change) -> None:
    before = yard.shop.main
    half = yard.ceremony.signed(longer(yard), "owner-a")
    refused(lambda: yard.apply(half), "trust-proposal-incomplete")
    assert yard.shop.main == before


def test_a_commit_that_the_operator_would_not_believe_is_not_made(yard: Change) -> None:
    wanted = edit.change_role(longer(yard), "git", owners=["operator"])
    with pytest.raises(UsageError) as error:
        yard.change(wanted, "owner-a", "owner-b")
    assert error.value.code == "git-signer-removed"


class Dying(LocalGit):
    """A repository whose process is gone at the n-th call of git."""

    def __init__(self, folder: Path, calls: int) -> None:
        super().__init__(folder)
        self.calls = calls

    def _git(self, *args: Any, **options: Any) -> Any:
        self.calls -= 1
        if self.calls < 0:
            raise UndecidedError("killed", code="killed")
        return super()._git(*args, **options)


def test_killed_at_any_call_of_git_all_of_it_governs_or_nothing(yard: Change) -> None:
    proposal = yard.ceremony.signed(longer(yard), "owner-a", "owner-b")
    before = yard.shop.main
    for calls in range(60):
        try:
            yard.apply(proposal, host=Dying(yard.shop.git.folder, calls))
        except UndecidedError as error:
            assert error.code == "killed"  # noqa: PT017 - other errors are failures
        else:
            break
        if yard.shop.main != before:
            break
        assert yard.workspace.trusted()[0].version == 1
    assert calls > 5
    head = yard.shop.main
    assert yard.shop.git.changed(before, head) == (root_path(2), "trust/2.trust.json", TARGETS_PATH)
    assert yard.shop.git.read(head, root_path(2), max_bytes=10**6) is not None
    # The work tree may still show the state of before, whole; never a root without its trust.json.
    assert yard.workspace.trusted()[0].version in {1, 2}


# Operator and devices


def test_operator_publishes_it_and_devices_follow_from_root_1_to_3(yard: Change) -> None:
    released = yard.release("1")
    yard.operator_of_today().once()
    early, late = yard.follower(), yard.follower()
    assert early.refresh(NOW) is not None
    late.refresh(NOW)
    # Root 2: owner-d comes, owner-a goes; the operator gets a new key.
    fresh = new_keys()[:1]
    wanted = yard.ceremony.add_owner(longer(yard), "owner-d")
    wanted = edit.change_root(wanted, owners=["owner-b", "owner-c", "owner-d"])
    wanted = edit.add_key(wanted, "operator", fresh[0].public)
    yard.change(wanted, "owner-b", "owner-c")
    operator = yard.operator_of_today()
    assert operator.once().published is not None
    assert operator.once().published is None, "published once"
    again = early.refresh(NOW)
    assert again is not None
    assert (again.digest, early.memory.root.version) == (released, 2)
    # Root 3: the operator's old key goes, and the status host's keys; signed by three that were not all there at first.
    people = yard.shop.people
    wanted = longer(yard, 600)
    old = people.signers["operator"][0].public.keyid
    wanted = edit.remove_key(wanted, old, reason=RetiredFor.SUPERSEDED, until=3, log="log.acme/m")
    status = new_keys()
    for signer in people.signers["status-host"]:
        wanted = edit.remove_key(wanted, signer.public.keyid, reason=RetiredFor.COMPROMISED, until=0, log="log.acme/m")
    for signer in status:
        wanted = edit.add_key(wanted, "status-host", signer.public)
    # Commits are signed by a key of the Git role: the operator's old one has to be believed no more.
    yard.change(wanted, "owner-d", "owner-c")
    people.signers["operator"] = tuple(fresh)
    with pytest.raises((UndecidedError, VerificationError)):
        yard.operator_of_today().once()  # the status host still has its old keys: nothing is published by halves
    assert early.refresh(NOW) is not None
    assert early.memory.root.version == 2
    yard.status_keys = status
    assert yard.operator_of_today().once().published is not None
    for device in (early, late):
        found = device.refresh(NOW)
        assert found is not None
        assert (found.digest, device.memory.root.version) == (released, 3)
    new = yard.follower()
    assert new.refresh(NOW) is not None


def test_a_release_that_was_signed_again_reaches_devices_before_the_key_goes(yard: Change) -> None:
    released = yard.release("1")
    yard.operator_of_today().once()
    device = yard.follower()
    assert device.refresh(NOW) is not None
    approve_again(
        released,
        host=yard.shop.git,
        log=yard.shop.ledger,
        trust=yard.shop.trust,
        signers=yard.shop.people.keys("owner-c"),
        by=yard.shop.by("maintainer"),
        at=NOW,
    )
    assert yard.operator_of_today().once().published is not None, "another envelope of the same release"
    wanted = retire(longer(yard), "owner-a")
    yard.change(wanted, "owner-b", "owner-c")
    yard.operator_of_today().once()
    found = device.refresh(NOW)
    assert found is not None
    assert found.digest == released


def test_a_device_refuses_what_a_stopped_release_would_be(yard: Change) -> None:
    yard.release("1")
    yard.operator_of_today().once()
    device = yard.follower()
    device.refresh(NOW)
    yard.change(retire(longer(yard), "owner-a"), "owner-b", "owner-c", stop_releases=True)
    with pytest.raises(VerificationError):
        yard.operator_of_today().once()
    publish_root(yard.store, yard.ceremony.standing.root, yard.workspace.root_files()["metadata/2.trust.json"])
    with pytest.raises(Refused) as error:
        device.refresh(NOW)
    assert error.value.code in {"release-unapproved", "targets-untrusted"}
    assert isinstance(yard.shop.people.pin, Digest)
