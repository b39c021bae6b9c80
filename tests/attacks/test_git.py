# SPDX-License-Identifier: Apache-2.0
"""What whoever can write to the ``.git`` of a repository tries on the people and programs that open it.

A commit is signed; the configuration and the objects beside it are not. Nothing there may run a program, and nothing may
change what is read through a signed commit.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from chopmark.adapters.git.local import LocalGit
from chopmark.adapters.kms import file as kms
from chopmark.adapters.processes.source import GitSource
from chopmark.errors import ChopmarkError, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.release import Committer, verify_range
from simulators.trust import NOW
from unit.builds.workbench import Bench
from unit.release.kit import Shop

POLICY = "policies/default.yaml"
WEAK = b"kind: ReleasePolicy\nspec: {rules: [{id: yes, phase: approval, cel: 'true'}]}\n"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.found(tmp_path_factory.mktemp("founded"))


@pytest.fixture
def shop(founded: Shop, tmp_path: Path) -> Shop:
    return founded.copy(tmp_path)


def git(where: Shop | Path, *arguments: str, data: bytes = b"") -> str:
    folder = where if isinstance(where, Path) else where.git.folder
    done = subprocess.run(["git", "-C", str(folder), *arguments], input=data, check=True, capture_output=True)
    return done.stdout.decode().strip()


def loose(folder: Path, name: str) -> Path:
    return folder / ".git/objects" / name[:2] / name[2:]


def swap(folder: Path, name: str, kind: str, content: bytes) -> None:
    """Put other content under the name of an object, as git writes objects."""
    path = loose(folder, name)
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"%s %d\0" % (kind.encode(), len(content)) + content))


def write(host: LocalGit, shop: Shop, files: dict[str, bytes | None], branch: str = "main") -> str:
    return host.commit(branch, files, parent=shop.main, message="m", by=shop.by("maintainer"), at=NOW)


def everything(shop: Shop, head: str) -> list[ChopmarkError | None]:
    """Do all that reads or writes; return what each ended in."""
    host = shop.git
    tries = [
        lambda: host.head("main"),
        lambda: host.read(head, POLICY, max_bytes=65_536),
        lambda: host.read_folder(head, "policies", max_bytes=65_536),
        lambda: host.changed(head, head),
        lambda: host.merge_base(head, head),
        lambda: host.is_ancestor(head, head),
        lambda: host.last_change(head, POLICY),
        lambda: verify_range(host, since=None, to=head, trust=shop.trust),
        lambda: host.commit("main", {"x": b"1"}, parent=head, message="m", by=shop.by("maintainer"), at=NOW),
        lambda: host.merge(head, into="main", expect=head, message="m", by=shop.by("maintainer"), at=NOW),
    ]
    ended: list[ChopmarkError | None] = []
    for attempt in tries:
        try:
            attempt()
            ended.append(None)
        except ChopmarkError as error:
            ended.append(error)
    return ended


@pytest.mark.parametrize(
    "key",
    [
        "filter.x.clean",
        "filter.x.smudge",
        "filter.x.process",
        "merge.evil.driver",
        "merge.default",
        "remote.origin.uploadpack",
        "remote.origin.promisor",
        "remote.x.url.vcs",
        "extensions.partialClone",
        "extensions.worktreeConfig",
        "protocol.file.allow",
        "core.worktree",
        "core.fsmonitor",
        "core.hooksPath",
        "core.sshCommand",
        "core.alternateRefsCommand",
        "core.attributesFile",
        "core.commitGraph",
        "gpg.ssh.program",
        "gpg.ssh.defaultKeyCommand",
        "gpg.ssh.revocationFile",
        "diff.external",
        "diff.x.textconv",
        "include.path",
        "includeIf.gitdir:/.path",
        "credential.helper",
        "url.ext::sh.insteadOf",
        "an.unknown; touch ran #.key",
    ],
)
def test_a_setting_that_is_not_known_to_be_harmless_is_refused_by_name(shop: Shop, tmp_path: Path, key: str) -> None:
    assert shop.git.head("main")  # the host has looked once: it must look again
    ran, head = tmp_path / "ran", shop.main
    yes_or_no = {"extensions.worktreeConfig": "true", "core.commitGraph": "true", "core.worktree": str(tmp_path)}
    git(shop, "config", key, yes_or_no.get(key, f"touch {ran}; cat"))
    for error in everything(shop, head):
        assert isinstance(error, UsageError)
        assert error.code == "git-setting"
        assert f"sets {key}, ".lower() in error.message.lower()
        hint = shlex.split(error.hint.rpartition("; look for")[0])
    assert not ran.exists()
    subprocess.run(hint, check=True)  # what the hint says is enough
    assert shop.git.head("main") == head


def test_what_people_and_clones_write_into_a_configuration_is_no_hindrance(shop: Shop, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", str(shop.git.folder), str(tmp_path / "clone")], check=True)
    for key, value in (
        ("user.name", "Ada"),
        ("user.email", "a@x"),
        ("user.signingkey", "~/.ssh/id"),
        ("gpg.format", "ssh"),
        ("commit.gpgsign", "true"),
        ("pull.rebase", "true"),
        ("branch.main.rebase", "true"),
        ("http.https://git.acme.example/.extraheader", "AUTHORIZATION: basic x"),
    ):
        git(tmp_path / "clone", "config", key, value)
    host = LocalGit(tmp_path / "clone")
    assert host.read(shop.main, POLICY, max_bytes=65_536)
    assert write(host, shop, {"x": b"1"}) == host.head("main")


def test_a_filter_of_the_repository_does_not_run(shop: Shop, tmp_path: Path) -> None:
    ran, head = tmp_path / "ran", shop.main
    git(shop, "config", "filter.x.clean", f"sh -c 'touch {ran}; cat'")
    git(shop, "config", "filter.x.smudge", f"sh -c 'touch {ran}; cat'")
    (shop.git.folder / ".git/info").mkdir(exist_ok=True)
    (shop.git.folder / ".git/info/attributes").write_text("* filter=x\n")
    (shop.git.folder / POLICY).touch()
    assert all(isinstance(error, UsageError) for error in everything(shop, head))
    assert not ran.exists()


def test_attributes_beside_the_signed_ones_are_refused(shop: Shop) -> None:
    """``merge=union`` needs no setting, and makes one file of two that conflict."""
    attributes = shop.git.folder / ".git/info/attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("# nothing\n\n")
    head = shop.main
    attributes.write_text("* merge=union\n")
    for error in everything(shop, head):
        assert isinstance(error, UsageError)
        assert "info/attributes" in error.message


def test_a_merge_driver_of_the_repository_does_not_run(shop: Shop, tmp_path: Path) -> None:
    ran, host, base = tmp_path / "ran", shop.git, shop.main
    policy = host.read(base, POLICY, max_bytes=65_536) or b""
    side = write(host, shop, {POLICY: b"# b\n" + policy}, branch="side")
    head = write(host, shop, {POLICY: policy + b"# a\n"})
    git(shop, "config", "merge.default", "evil")
    git(shop, "config", "merge.evil.driver", f"sh -c 'touch {ran}'")
    with pytest.raises(UsageError):
        host.merge(side, into="main", expect=head, message="m", by=shop.by("maintainer"), at=NOW)
    assert not ran.exists()


def lazy(folder: Path, ran: Path) -> None:
    """Make a repository fetch what it lacks, through a program."""
    for key, value in (
        ("core.repositoryformatversion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", f"file://{folder}"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.uploadpack", f"sh -c 'touch {ran}'"),
        ("protocol.file.allow", "always"),
    ):
        git(folder, "config", key, value)


def test_an_object_that_is_missing_is_not_fetched(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, name, head = tmp_path / "ran", git(shop, "rev-parse", f"main:{POLICY}"), shop.main
    lazy(shop.git.folder, ran)
    loose(shop.git.folder, name).unlink()
    with pytest.raises(UsageError):
        shop.git.read(head, POLICY, max_bytes=65_536)
    # Nor where the settings were missed: two locks on one door.
    monkeypatch.setattr("chopmark.adapters.git.local.refuse_settings", lambda *_: None)
    with pytest.raises(UndecidedError):
        LocalGit(shop.git.folder).read(head, POLICY, max_bytes=65_536)
    assert not ran.exists()


def test_a_revocation_file_of_the_repository_changes_no_verdict(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(shop.by("maintainer").key)], check=True, capture_output=True
    ).stdout
    (tmp_path / "revoked").write_bytes(public)
    git(shop, "config", "gpg.ssh.revocationFile", str(tmp_path / "revoked"))
    monkeypatch.setattr("chopmark.adapters.git.local.refuse_settings", lambda *_: None)
    (commit,) = verify_range(shop.git, since=None, to=shop.main, trust=shop.trust)
    assert commit.signer == "maintainer"


def test_a_file_with_other_content_under_its_name_is_refused(shop: Shop) -> None:
    head = shop.main
    swap(shop.git.folder, git(shop, "rev-parse", f"main:{POLICY}"), "blob", WEAK)
    for read in (
        lambda: shop.git.read(head, POLICY, max_bytes=65_536),
        lambda: shop.git.read_folder(head, "policies", max_bytes=65_536),
    ):
        with pytest.raises(VerificationError) as caught:
            read()
        assert caught.value.code == "git-object-altered"


def test_a_packed_file_with_other_content_under_its_name_is_refused(shop: Shop) -> None:
    """The index of a pack says where an object lies; swap two of them there."""
    folder, head = shop.git.folder, shop.main
    write(shop.git, shop, {"weak.yaml": WEAK}, branch="side")
    real, weak = (git(shop, "rev-parse", name) for name in (f"main:{POLICY}", "side:weak.yaml"))
    git(shop, "repack", "-q", "-a", "-d")
    (index,) = (folder / ".git/objects/pack").glob("*.idx")
    data = bytearray(index.read_bytes())
    count = int.from_bytes(data[8 + 255 * 4 : 8 + 256 * 4], "big")
    names = 8 + 256 * 4
    offsets = names + 24 * count
    at = [(data.index(bytes.fromhex(name), names) - names) // 20 * 4 + offsets for name in (real, weak)]
    data[at[0] : at[0] + 4] = data[at[1] : at[1] + 4]
    index.chmod(0o644)
    index.write_bytes(data)
    assert git(shop, "show", f"main:{POLICY}").encode() + b"\n" == WEAK
    with pytest.raises(VerificationError):
        shop.git.read(head, POLICY, max_bytes=65_536)


def weak_tree(shop: Shop) -> tuple[str, bytes]:
    """Return the name of the folder of policies, and a tree in which the policy is another."""
    blob = git(shop, "hash-object", "-w", "--stdin", data=WEAK)
    name = git(shop, "rev-parse", "main:policies")
    return name, b"100644 default.yaml\0" + bytes.fromhex(blob)


def test_a_folder_with_other_content_under_its_name_is_refused(shop: Shop) -> None:
    head = shop.main
    swap(shop.git.folder, *_of(weak_tree(shop), "tree"))
    assert git(shop, "show", f"main:{POLICY}").encode() + b"\n" == WEAK
    for read in (
        lambda: shop.git.read(head, POLICY, max_bytes=65_536),
        lambda: shop.git.read_folder(head, "policies", max_bytes=65_536),
        lambda: shop.git.read(head, "policies/none.yaml", max_bytes=65_536),
    ):
        with pytest.raises(VerificationError):
            read()


def _of(made: tuple[str, bytes], kind: str) -> tuple[str, str, bytes]:
    return made[0], kind, made[1]


def test_nobody_signs_a_commit_of_files_that_an_altered_folder_slipped_in(shop: Shop) -> None:
    """Git makes the next commit from what it reads of the last one, and a maintainer signs it."""
    head = shop.main
    swap(shop.git.folder, *_of(weak_tree(shop), "tree"))
    with pytest.raises(VerificationError) as caught:
        write(shop.git, shop, {"policies/other.yaml": b"1"}, branch="side")
    assert caught.value.code == "git-object-altered"
    assert shop.git.head("side") is None
    assert shop.git.head("main") == head


def test_a_commit_with_other_content_under_its_name_is_refused(shop: Shop) -> None:
    """A good signature on an old commit, under the name of a new one."""
    folder, first = shop.git.folder, shop.main
    second = write(shop.git, shop, {POLICY: b"stricter"})
    old = zlib.decompress(loose(folder, first).read_bytes()).partition(b"\0")[2]
    swap(folder, second, "commit", old)
    with pytest.raises(VerificationError) as caught:
        shop.git.read(second, POLICY, max_bytes=65_536)
    assert caught.value.code == "git-object-altered"
    with pytest.raises(VerificationError):
        verify_range(shop.git, since=None, to=second, trust=shop.trust)


def test_a_change_cannot_be_hidden_by_an_altered_folder(shop: Shop) -> None:
    folder, first = shop.git.folder, shop.main
    second = write(shop.git, shop, {POLICY: WEAK}, branch="side")
    before = zlib.decompress(loose(folder, git(shop, "rev-parse", f"{first}^{{tree}}")).read_bytes())
    swap(folder, git(shop, "rev-parse", f"{second}^{{tree}}"), "tree", before.partition(b"\0")[2])
    assert git(shop, "diff-tree", "-r", "--name-only", first, second) == ""
    with pytest.raises(VerificationError):
        shop.git.changed(first, second)


def test_a_merge_of_altered_files_is_not_signed(shop: Shop) -> None:
    """The base of a merge decides which side's lines stay."""
    host, base = shop.git, shop.main
    policy = host.read(base, POLICY, max_bytes=65_536) or b""
    side = write(host, shop, {POLICY: b"# side\n" + policy}, branch="side")
    head = write(host, shop, {POLICY: policy + b"# stricter\n"})
    swap(host.folder, git(shop, "rev-parse", f"{base}:{POLICY}"), "blob", policy + b"# stricter\n")
    with pytest.raises(VerificationError):
        host.merge(side, into="main", expect=head, message="m", by=shop.by("maintainer"), at=NOW)
    assert host.head("main") == head


def test_history_cannot_be_cut_short(shop: Shop, tmp_path: Path) -> None:
    """``shallow`` and a commit graph say what a commit's parents are, and no signature covers them."""
    kms.export_openssh(kms.generate(Algorithm.ED25519), tmp_path / "stranger")
    stranger = Committer(name="maintainer", email="m@x", key=tmp_path / "stranger")
    first = shop.main
    evil = shop.git.commit("main", {POLICY: WEAK}, parent=first, message="evil", by=stranger, at=NOW)
    last = write(shop.git, shop, {"x": b"1"})
    (shop.git.folder / ".git/shallow").write_text(f"{last}\n")
    assert git(shop, "rev-list", last) == last
    with pytest.raises(VerificationError) as caught:
        verify_range(shop.git, since=None, to=last, trust=shop.trust)
    assert caught.value.evidence["commit"] == evil


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def exported(bench: Bench, tmp_path: Path, commit: str) -> Path:
    folder = tmp_path / "exported"
    folder.mkdir()
    GitSource(bench.repo).export(commit, folder)
    return folder


def test_looking_for_changes_in_code_runs_nothing_of_the_repository(bench: Bench, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name, value in (("clean", f"touch {ran}; cat"), ("process", f"touch {ran}"), ("required", "true")):
        bench.git("config", f"filter.a=b.c.{name}", value)
    (bench.repo / ".git/info").mkdir(exist_ok=True)
    (bench.repo / ".git/info/attributes").write_text("* filter=a=b.c\n")
    os.utime(bench.repo / "train.py", (0, 0))
    assert bench.source.changes() == ()
    assert not ran.exists()


def test_code_that_is_missing_is_not_fetched(bench: Bench, tmp_path: Path) -> None:
    ran, name, commit = tmp_path / "ran", bench.git("rev-parse", "HEAD:train.py"), bench.source.commit()
    lazy(bench.repo, ran)
    loose(bench.repo, name).unlink()
    with pytest.raises(ChopmarkError):
        exported(bench, tmp_path, commit)
    assert not ran.exists()


@pytest.mark.parametrize("what", ["HEAD:train.py", "HEAD:sub", "HEAD^{tree}", "HEAD"])  # git itself sees the last two
def test_code_with_other_content_under_its_name_does_not_run(bench: Bench, tmp_path: Path, what: str) -> None:
    bench.write("sub/a.py", "good")
    bench.write("sub.py", "good too")  # git sorts a folder as if its name ended in "/"
    honest = bench.commit()
    bench.write("sub/a.py", "evil")
    bench.write("train.py", "evil")
    evil = bench.commit()
    bench.git("reset", "--quiet", "--hard", honest)
    shutil.rmtree(exported(bench, tmp_path, honest))
    kind = bench.git("cat-file", "-t", what)
    other = loose(bench.repo, bench.git("rev-parse", what.replace("HEAD", evil)))
    swap(bench.repo, bench.git("rev-parse", what), kind, zlib.decompress(other.read_bytes()).partition(b"\0")[2])
    with pytest.raises(ChopmarkError, match=r"other content under|hash mismatch"):
        exported(bench, tmp_path, honest)
