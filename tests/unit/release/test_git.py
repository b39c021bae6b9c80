# SPDX-License-Identifier: Apache-2.0
"""The port GitHost, by the real ``git``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chopmark.adapters.git.local import LocalGit
from chopmark.adapters.kms import file as kms
from chopmark.errors import DecodeError, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.release import Committer, allowed_signers, verify_range
from chopmark.release.history import fingerprint
from simulators.trust import NOW
from unit.release.kit import Shop, people

FILES = {"a.txt": b"one\r\n", "folder/b.txt": b"two", "folder/deep/c.txt": b"three"}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "maintainer"
    kms.export_openssh(people().signers["maintainer"][0], path)
    return path


@pytest.fixture
def git(tmp_path: Path, key: Path) -> LocalGit:
    return LocalGit.create(tmp_path / "repo", files=FILES, message="First", author="maintainer", key=key, at=NOW)


def by(key: Path) -> Committer:
    return Committer(name="maintainer", email="maintainer@acme", key=key)


def main(git: LocalGit) -> str:
    head = git.head("main")
    assert head is not None
    return head


def run(git: LocalGit, *args: str) -> str:
    """Run git as a person would, with a configuration of their own."""
    options = ["-c", "user.name=mallory", "-c", "user.email=m@x", "-c", "commit.gpgSign=false"]
    return subprocess.run(
        ["git", "-C", str(git.folder), *options, *args], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_reads_bytes_as_they_were_committed(git: LocalGit) -> None:
    head = main(git)
    assert git.read(head, "a.txt", max_bytes=5) == b"one\r\n"
    assert git.read(head, "none.txt", max_bytes=5) is None
    assert git.read(head, "folder", max_bytes=5) is None
    assert git.read_folder(head, "folder", max_bytes=5) == {"folder/b.txt": b"two"}
    assert git.read_folder(head, "none", max_bytes=5) == {}
    with pytest.raises(DecodeError):
        git.read(head, "a.txt", max_bytes=4)
    for path in ("../repo/a.txt", "/etc/passwd", "folder/../a.txt", ""):
        with pytest.raises(DecodeError):
            git.read(head, path, max_bytes=5)
    assert (git.folder / "a.txt").read_bytes() == b"one\r\n"


def test_a_repository_that_lost_a_file_is_undecided(git: LocalGit) -> None:
    head, blob = main(git), run(git, "rev-parse", "HEAD:a.txt")
    (git.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UndecidedError):
        git.read(head, "a.txt", max_bytes=1000)


def test_a_symbolic_link_is_no_file(git: LocalGit) -> None:
    (git.folder / "link").symlink_to("/etc/passwd")
    run(git, "add", "link")
    run(git, "commit", "-qm", "link")
    assert git.read(main(git), "link", max_bytes=1000) is None


def test_commits_leave_a_dirty_tree_alone_unless_they_must_touch_it(git: LocalGit, key: Path) -> None:
    (git.folder / "a.txt").write_bytes(b"mine")
    before = main(git)
    made = git.commit("side", {"d.txt": b"x", "a.txt": None}, parent=before, message="Side", by=by(key), at=NOW)
    assert (git.head("side"), git.read(made, "a.txt", max_bytes=9)) == (made, None)
    with pytest.raises(UsageError) as caught:
        git.commit("main", {"d.txt": b"x"}, parent=before, message="Main", by=by(key), at=NOW)
    assert caught.value.code == "dirty-tree"
    assert (main(git), (git.folder / "a.txt").read_bytes()) == (before, b"mine")
    run(git, "checkout", "-q", "a.txt")
    (git.folder / "d.txt").write_bytes(b"untracked")
    with pytest.raises(UsageError):
        git.merge(made, into="main", expect=before, message="Merge", by=by(key), at=NOW)
    assert (git.folder / "d.txt").read_bytes() == b"untracked"
    (git.folder / "d.txt").unlink()
    merged = git.merge(made, into="main", expect=before, message="Merge", by=by(key), at=NOW)
    assert not (git.folder / "a.txt").exists()
    assert (git.folder / "d.txt").read_bytes() == b"x"
    assert (run(git, "status", "--porcelain"), run(git, "rev-parse", "HEAD^2")) == ("", made)
    assert git.last_change(merged, "d.txt") == (merged, before)
    assert git.last_change(merged, "none") is None
    assert git.changed(before, merged) == ("a.txt", "d.txt")


def test_a_branch_moves_by_compare_and_swap(git: LocalGit, key: Path) -> None:
    first = main(git)
    second = git.commit("main", {"x": b"1"}, parent=first, message="2", by=by(key), at=NOW)
    with pytest.raises(UndecidedError) as caught:
        git.commit("main", {"x": b"2"}, parent=first, message="2", by=by(key), at=NOW)
    assert (caught.value.code, main(git)) == ("ref-moved", second)
    with pytest.raises(UndecidedError):
        git.merge(first, into="main", expect=first, message="2", by=by(key), at=NOW)


def test_a_conflict_changes_nothing(git: LocalGit, key: Path) -> None:
    first = main(git)
    side = git.commit("side", {"a.txt": b"side"}, parent=first, message="side", by=by(key), at=NOW)
    second = git.commit("main", {"a.txt": b"main"}, parent=first, message="main", by=by(key), at=NOW)
    assert git.merge_base(side, second) == first
    with pytest.raises(UsageError) as caught:
        git.merge(side, into="main", expect=second, message="x", by=by(key), at=NOW)
    assert (caught.value.code, main(git)) == ("merge-conflict", second)


def test_nothing_that_the_repository_asks_for_is_run(
    git: LocalGit, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the refusal of its settings (tests/attacks/test_git.py) missed one."""
    mark = tmp_path / "ran"
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\ntouch {mark}\nexit 0\n", encoding="ascii")
    script.chmod(0o755)
    hooks = git.folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("reference-transaction", "pre-commit", "post-merge", "post-index-change", "post-checkout"):
        (hooks / hook).symlink_to(script)
    for setting in ("core.fsmonitor", "gpg.ssh.program", "gpg.program", "diff.external", "core.pager", "core.editor"):
        run(git, "config", setting, str(script))
    with pytest.raises(UsageError):
        main(git)
    monkeypatch.setattr("chopmark.adapters.git.local.refuse_settings", lambda *_: None)
    head = git.commit("main", {"x": b"1"}, parent=main(git), message="2", by=by(key), at=NOW)
    assert len(git.log(None, head, allowed_signers=allowed_signers(people().policy))) == 2
    assert not mark.exists()


def test_who_signed_is_told_by_trust_alone(git: LocalGit, key: Path, tmp_path: Path) -> None:
    first, trust = main(git), people().policy
    (commit,) = verify_range(git, since=None, to=first, trust=trust)
    assert (commit.signer, commit.subject, commit.parents) == ("maintainer", "First", ())
    assert commit.fingerprint == fingerprint(people().signers["maintainer"][0].public)
    stranger = tmp_path / "stranger"
    kms.export_openssh(kms.generate(Algorithm.ED25519), stranger)
    signed = git.commit("a", {"x": b"1"}, parent=first, message="by a stranger", by=by(stranger), at=NOW)
    run(git, "checkout", "-q", "-b", "b")
    run(git, "commit", "-q", "--allow-empty", "-m", "unsigned")
    unsigned = git.head("b")
    raw = run(git, "cat-file", "commit", first).replace("First", "Other")
    altered = subprocess.run(
        ["git", "-C", str(git.folder), "hash-object", "-t", "commit", "-w", "--stdin"],
        check=True,
        input=raw + "\n",
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert unsigned is not None
    for bad in (signed, unsigned, altered):
        with pytest.raises(VerificationError) as caught:
            verify_range(git, since=None, to=bad, trust=trust)
        assert (caught.value.code, caught.value.evidence["commit"]) == ("commit-untrusted", bad)


def test_a_replaced_object_is_not_believed(git: LocalGit, key: Path) -> None:
    first = main(git)
    run(git, "commit", "-q", "--allow-empty", "-m", "unsigned")
    bad = main(git)
    good = git.commit("good", {"x": b"1"}, parent=first, message="good", by=by(key), at=NOW)
    run(git, "replace", bad, good)
    with pytest.raises(VerificationError):
        verify_range(git, since=first, to=bad, trust=people().policy)


def test_keys_and_repositories_that_are_not_there(git: LocalGit, key: Path, tmp_path: Path) -> None:
    with pytest.raises(UndecidedError, match="no such key"):
        git.commit("x", {}, parent=main(git), message="m", by=by(tmp_path / "none"), at=NOW)
    key.chmod(0o644)
    with pytest.raises(UndecidedError) as caught:
        git.commit("x", {}, parent=main(git), message="m", by=by(key), at=NOW)
    assert caught.value.code == "key-unavailable"
    (tmp_path / "repo" / "inner").mkdir()
    with pytest.raises(UsageError, match="not a Git repository"):
        LocalGit(tmp_path / "repo" / "inner").head("main")
    with pytest.raises(UsageError):
        LocalGit.create(tmp_path / "repo", files={}, message="", author="a", key=key)
    for odd in ("-x", "a..b", "a.lock", "a b", "", "HEAD^", "a/.b", "@{-1}"):
        with pytest.raises(UsageError):
            git.head(odd)
    for odd in ("HEAD", "main", "--all", "", "0" * 39):
        with pytest.raises(UsageError):
            git.read(odd, "a.txt", max_bytes=1)
    assert git.head("none") is None


def test_a_copied_repository_is_not_dirty(shop: Shop, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", str(shop.git.folder), str(tmp_path / "copy")], check=True)
    copy = LocalGit(tmp_path / "copy")
    made = copy.commit("main", {"x": b"1"}, parent=main(copy), message="m", by=shop.by("operator"), at=NOW)
    assert main(copy) == made
