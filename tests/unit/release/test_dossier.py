# SPDX-License-Identifier: Apache-2.0
"""A dossier is written, read, opened from the pin, and tells the life that the ledger holds."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import click
import pytest

from chopmark.apps.cli.trace import WIDTH, tree
from chopmark.artifacts import Digest
from chopmark.channel.status import hold, revocation
from chopmark.errors import VerificationError
from chopmark.release.dossier import is_dossier, open_dossier, read_dossier
from chopmark.release.story import Stage, find_file, tell
from chopmark.statements import PredicateType
from chopmark.trust import Frozen, next_root
from simulators import NOW, SimTrust
from simulators.dossier import FILES, SimLife
from unit.release.kit import statement


@pytest.fixture(scope="module")
def life() -> SimLife:
    return SimLife()


def test_a_whole_life_is_told_from_one_file_and_a_pin(life):
    opened = life.open(life.written())
    story = tell(opened, opened.about)
    assert story.ok, story.as_json()
    assert [event.type for event in story.of(Stage.ORIGIN)] == ["dataset", "train", "convert", "quantise", "package"]
    assert [event.type for event in story.of(Stage.CHECKS)] == ["test-result", "inspection", "sbom"]
    assert [event.type for event in story.of(Stage.DECISION)] == ["vsa", "release"]
    assert story.of(Stage.DECISION)[1].owners == ("owner-a", "owner-b")
    assert [a.release for a in story.assigned] == [life.release.digest]
    assert story.gaps() == {}
    assert (opened.package, opened.complete) == (True, True)
    assert "not revoked and not held by status" in story.known
    assert "in all 11 entries" in story.known


def test_the_same_dossier_is_the_same_bytes_and_reads_back(life):
    dossier = life.dossier()
    assert life.written(dossier) == life.written(dossier)
    lengths = {Digest.of(data): len(data) for data in FILES.values()}
    assert read_dossier(io.BytesIO(life.written(dossier))) == replace(dossier, package=lengths)


def test_it_is_a_tar_that_stock_tools_read(life):
    data = life.written()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        model = archive.extractfile(f"package/{Digest.of(FILES['model.onnx']).hex}")
        assert model is not None
        assert model.read() == FILES["model.onnx"]
    assert names[0] == "dossier.json"
    assert is_dossier(data[:512])
    assert not is_dossier(FILES["model.onnx"])


def test_the_pin_may_be_a_later_root():
    life = SimLife()
    root, trust = life.trust.build_root(version=2, policy=life.trust.renew_policy())
    assert next_root(life.trust.root, root).version == 2
    dossier = replace(life.dossier(), roots=(life.trust.first, root), trust=trust)
    for pin in (life.trust.pin, Digest.of(root)):
        assert open_dossier(dossier, pin, now=NOW).root.version == 2


def test_what_was_left_out_cannot_be_known_and_is_said(life):
    part = replace(life.dossier(whole=False), channel=None, published={})
    opened = life.open(part)
    story = tell(opened, opened.about)
    assert not opened.complete
    assert story.known == "unknown: the dossier holds no status, and not every entry of the ledger"
    assert story.gaps() == {Stage.PUBLICATION: "the dossier holds no publication of the channel"}


def test_a_life_without_a_training_says_origin_unknown():
    life = SimLife(evidence=False)
    opened = life.open()
    gaps = tell(opened, opened.about).gaps()
    assert gaps[Stage.ORIGIN] == "no training is recorded: origin unknown"
    assert gaps[Stage.CHECKS] == "no test, no inspection, no bill of materials"


def test_a_file_of_the_package_is_found_by_its_digest_and_another_is_not(life):
    opened = life.open()
    assert find_file(opened, Digest.of(FILES["model.onnx"])) == life.manifest.digest
    with pytest.raises(VerificationError) as caught:
        find_file(opened, Digest.of(b"another model"))
    assert caught.value.code == "not-in-dossier"


@pytest.mark.parametrize("make", [revocation, hold])
def test_a_revocation_or_hold_in_the_ledger_is_told_and_is_no_yes(make):
    life = SimLife()
    said = {"workspace": "acme", "model": "digits", "kind": "manifest", "reason": "backdoor", "since": NOW}
    keys = life.trust.keys("security-a", "security-b")
    life.say("security-a", make(digest=life.manifest.digest, **said), signers=keys)
    story = tell(life.open(), life.manifest.digest)
    assert not story.ok
    assert [w.reason for w in story.withdrawn] == ["backdoor"]
    assert "backdoor" in "\n".join(tree(story))
    if make is hold:
        life.say("security-a", hold(digest=life.manifest.digest, lift=True, **said), signers=keys)
        assert tell(life.open(), life.manifest.digest).ok


def test_a_revocation_that_only_the_status_knows_is_told():
    life = SimLife(publish=False)
    life.channel.revoke(life.release.digest)
    life.channel.publish(life.release)
    story = tell(life.open(), life.manifest.digest)
    assert [(w.kind, w.by) for w in story.withdrawn] == [("revocation", "status 2")]
    assert not story.ok


def test_a_statement_of_somebody_without_the_role_is_shown_and_not_believed():
    life = SimLife()
    life.say("tester", statement(PredicateType.INSPECTION, life.manifest.digest, {"result": "PASSED"}))
    story = tell(life.open(), life.manifest.digest)
    assert [e.problem for e in story.events if e.problem] == ["tester may not say inspection about model/digits"]
    assert not story.ok
    assert any("not believed" in line for line in tree(story))


def test_an_envelope_too_long_for_a_leaf_lies_beside_it():
    life = SimLife()
    index = life.say("inspector", statement(PredicateType.SBOM, life.manifest.digest, {"text": "x" * 70_000}))
    opened = life.open(life.written())
    assert index in {event.index for event in tell(opened, opened.about).of(Stage.CHECKS)}


def test_the_tree_is_narrow_and_says_with_words_what_it_says_with_marks(life):
    opened = life.open()
    lines = tree(tell(opened, opened.about))
    plain = [click.unstyle(line) for line in lines]
    assert max(map(len, plain)) <= WIDTH
    text = "\n".join(plain)
    for word in ("made from", "found out", "decided", "published", "since then", "approved", "8 of 8 rules", "witness"):
        assert word in text


def test_control_characters_in_a_statement_end_in_no_terminal():
    life = SimLife()
    life.say("tester", statement(PredicateType.TEST_RESULT, life.manifest.digest, {"timeVerified": "\x1b[31mred"}))
    assert not any("\x1b[31mred" in line for line in tree(tell(life.open(), life.manifest.digest)))


def test_a_dossier_of_another_workspace_with_a_true_root_of_ours_is_foreign(life):
    with pytest.raises(VerificationError) as caught:
        life.open(replace(life.dossier(), workspace="other"))
    assert caught.value.code == "dossier-foreign"


def test_a_ledger_that_ended_is_believed_up_to_its_end_only():

    life = SimLife(publish=False)
    head = life.log.checkpoint
    for size, root, fine in (
        (head.size, head.root, True),
        (head.size - 1, head.root, False),
        (head.size, bytes(32), False),
    ):
        ended = Frozen(size=size, root=Digest(root))
        policy = life.trust.renew_policy(logs=(replace(life.log.keys, frozen=ended),))
        second, trust = life.trust.build_root(version=2, policy=policy)
        dossier = replace(life.dossier(), roots=(life.trust.first, second), trust=trust)
        if fine:
            assert life.open(dossier).seen.checkpoint.size == size
        else:
            with pytest.raises(VerificationError) as caught:
                life.open(dossier)
            assert caught.value.code == "log-fork"


def test_nobody_elses_pin_opens_it(life):
    with pytest.raises(VerificationError) as caught:
        open_dossier(life.dossier(), SimTrust().pin, now=NOW)
    assert caught.value.code == "root-untrusted"


def test_what_the_gate_decided_is_decided_again(life):
    opened = life.open()
    story = tell(opened, opened.about)
    assert [again.differences for again in story.replayed] == [()]
    assert "decided again here: the same" in "\n".join(map(click.unstyle, tree(story))).replace("\n│  │      ", " ")
    without = life.open(replace(life.dossier(), policies={}))
    assert tell(without, opened.about).replayed == ()
