# SPDX-License-Identifier: Apache-2.0
"""Lose a key, see exactly which releases are affected, revoke it; rotate another: in a real workspace, by the command line."""

from __future__ import annotations

import json

import pytest

from chopmark.apps.cli import releasing
from chopmark.apps.cli.main import run
from chopmark.apps.cli.wiring import Site, create_workspace
from chopmark.channel import RuntimeNeed
from chopmark.release import Draft, propose
from unit.release.kit import chain, digest

RUNTIME = RuntimeNeed(name="onnxruntime", range=">=1.20,<2", libraries={})


class Office:
    """A workspace, and somebody at its keyboard."""

    def __init__(self, folder, capsys) -> None:
        self.folder, self.capsys = folder, capsys

    def say(self, *words, code=0):
        """Run a command; return its JSON."""
        found = run(["-w", str(self.folder), *words, "--json"])
        out = self.capsys.readouterr().out
        assert found == code, out
        return json.loads(out)

    def show(self, *words):
        """Run a command; return what a person reads."""
        assert run(["-w", str(self.folder), *words]) == 0
        return self.capsys.readouterr().out

    @property
    def site(self):
        return Site.at(self.folder)

    def release(self, model, *owners):
        """Release version 1 of *model*, approved by *owners*; return its hash."""
        site, package = self.site, digest(f"package of {model}")
        for owner, said in chain(package):
            site.record(said, owner)
        draft = Draft(
            model=model,
            version="1",
            manifest=package,
            manifest_length=564,
            channels=("production",),
            runtime=RUNTIME,
            self_test=digest("self-test"),
        )
        done = propose(draft, host=site.git, gate=site.gate(), by=site.committer("maintainer"))
        for owner in owners:
            releasing.approve_release(site, f"{model}-1", owner)
        assert releasing.merge_release(site, f"{model}-1").commit
        return str(done.release.digest)

    def carry_out(self, proposal):
        """Have two root owners sign a proposal, and apply it."""
        for owner in ("owner-a", "owner-b"):
            keys = str(self.site.workspace.owner_keys(owner))
            self.say("trust", "sign", proposal, "--keys", keys, "--yes")
        self.say("trust", "apply", proposal)


@pytest.fixture
def office(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_workspace(tmp_path / "acme", name="acme", channel="production", port=18_730)
    return Office(tmp_path / "acme", capsys)


def test_a_lost_key_from_the_impact_to_the_revocation(office):
    releases = {
        "digits": office.release("digits", "owner-a", "owner-b"),
        "faces": office.release("faces", "owner-b", "owner-c"),
        "plates": office.release("plates", "owner-a", "owner-b", "owner-c"),
    }
    found = office.say("keys", "impact", "owner-c")
    assert found["sign_again"] == [releases["faces"]]
    assert {one["model"]: (one["after"], one["lost"]) for one in found["releases"]} == {
        "faces": (["owner-b"], True),
        "plates": (["owner-a", "owner-b"], False),
    }
    assert {one["role"]: one["lost"] for one in found["roles"]} == {"approver": False, "root": False}
    assert {one["type"] for one in found["signed"]} == {"release"}
    assert len(found["signed"]) == 2

    refused = office.say("keys", "revoke", "owner-c", "--reason", "compromised", code=1)
    assert refused["error"] == "releases-would-stop"
    assert refused["evidence"]["releases"] == [releases["faces"]]
    assert f"{refused['hint']}   faces v1" in office.show("keys", "impact", "owner-c")

    program, *hinted = refused["hint"].split()
    assert program == "chopmark"
    again = office.say(*hinted)
    assert again["approvals"] == ["owner-a", "owner-b", "owner-c"]
    assert office.say("keys", "impact", "owner-c")["sign_again"] == []

    entry = found["signed"][0]["index"]
    since = str(found["signed"][1]["index"])
    done = office.say("keys", "revoke", "owner-c", "--reason", "compromised", "--since", since)
    assert (len(done["retire"]), done["until"]) == (2, int(since))
    assert "owner-c" in {key["owner"] for key in office.say("keys", "list")["keys"]}, "a proposal changes nothing"
    office.carry_out(done["proposal"])

    assert "owner-c" not in {key["owner"] for key in office.say("keys", "list")["keys"]}
    states = {key["owner"]: key["state"] for key in office.say("keys", "list", "--retired")["keys"]}
    assert states["owner-c"] == "retired"
    life = {event["index"]: event for event in office.say("trace", releases["faces"][7:])["events"]}
    assert life[entry]["judgement"] == "compromised-before"
    assert life[again["index"]]["judgement"] == "current", "it rests on two keys that are good"
    note = f"a key of owner-c that signed it was compromised since, from entry {since} on"
    assert life[entry]["note"] == note, "said once for an owner's pair of keys"
    assert office.show("trace", releases["faces"][7:]).count(note) == 1
    assert office.say("keys", "revoke", "owner-c", "--reason", "superseded", code=2)["error"] == "key-retired"
    assert office.say("release", "approve", "faces-1", "--as", "owner-c", code=1)["error"] == "key-retired"
    assert {r.model for r in releasing.wanted_releases(office.site)} == set(releases)


def test_new_keys_say_how_they_are_proposed_also_for_somebody_new(office, tmp_path):
    for owner in ("owner-d", "tester"):
        told = office.show("keys", "new", owner, "--out", str(tmp_path / owner))
        program, *hinted = told.partition("next: ")[2].split()
        assert program == "chopmark"
        assert office.say(*hinted, "--dry-run")["differences"]


def test_a_refusal_of_the_gate_has_no_tick_in_the_life(office):
    site, package = office.site, digest("package")
    for owner, said in chain(package):
        site.record(said, owner)
    draft = Draft(
        model="digits",
        version="1",
        manifest=package,
        manifest_length=564,
        channels=("production",),
        runtime=RUNTIME,
        self_test=digest("self-test"),
    )
    propose(draft, host=site.git, gate=site.gate(), by=site.committer("maintainer"))
    releasing.approve_release(site, "digits-1", "owner-a")
    assert not releasing.merge_release(site, "digits-1").commit
    lines = [line.split() for line in office.show("trace", package.hex).splitlines() if "vsa" in line]
    assert [(line[1], line[5], line[6]) for line in lines] == [
        ("✓", "evidence", "ALLOWED,"),
        ("·", "approval", "REFUSED,"),
    ]


def test_root_owners_are_named(office):
    assert "root        2 of 3  owner-a, owner-b, owner-c" in office.show("trust", "show")
    assert office.say("trust", "show")["pin"] == str(office.site.workspace.pin)


def test_a_machines_key_rotates_with_overlap(office):
    first = office.say("keys", "rotate", "tester")
    again = office.say("keys", "rotate", "tester", "--out", "again.json")
    assert first["add"] == again["add"], "a key that was made and not proposed yet is taken"
    office.carry_out(first["proposal"])
    office.release("digits", "owner-a", "owner-b")
    tested = next(e for _, e in office.site.statements() if "test-result" in e.payload.decode())
    assert len(tested.signatures) == 2, "old and new key sign, while they overlap"

    done = office.say("keys", "rotate", "tester", "--finish")
    assert done["until"] == office.site.ledger.checkpoint.size
    office.carry_out(done["proposal"])
    assert office.say("keys", "rotate", "tester", "--finish", code=2)["error"] == "rotation-unfinished"
    shown = office.say("keys", "show", "tester")["keys"]
    assert [(key["state"], key["signed"]) for key in shown] == [("current", 1), ("retired", 1)]
    assert [signer.public.keyid for signer in office.site.signers("tester")] == [first["add"][0]["keyid"]]
    office.release("faces", "owner-a", "owner-b")
    retired = next(f for f in office.say("doctor")["findings"] if f["what"] == "retired keys")
    assert retired["detail"].endswith("tester/ed25519.pem")


def test_who_signs_commits_goes_on_with_the_new_key(office):
    first = office.say("keys", "rotate", "maintainer")
    office.carry_out(first["proposal"])
    office.carry_out(office.say("keys", "rotate", "maintainer", "--finish")["proposal"])
    office.release("digits", "owner-a", "owner-b")
    assert [r.model for r in releasing.wanted_releases(office.site)] == ["digits"]


def test_the_last_key_of_a_role_goes_only_with_one_in_its_place(office):
    refused = office.say("keys", "revoke", "gate", "--reason", "compromised", code=2)
    assert refused["error"] == "role-unmeetable"
    assert refused["hint"].endswith("chopmark keys new gate")
    made = office.say("keys", "new", "gate")
    done = office.say("keys", "revoke", "gate", "--reason", "compromised")
    assert [key["keyid"] for key in done["add"]] == [key["keyid"] for key in made["keys"]]
    office.carry_out(done["proposal"])
    office.release("digits", "owner-a", "owner-b")
