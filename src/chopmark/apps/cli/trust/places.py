# SPDX-License-Identifier: Apache-2.0
"""Where a proposal and what governs now are read from, and how both are shown. Not a command.

A proposal is a file, or a branch ``trust/<version>`` of the workspace's repository. What governs now is the workspace's
pin and repository, or, on a machine without one, the files that its owner kept: ``--root 1.root.json --trust 1.trust.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from chopmark.apps.cli.render import bad, columns, dim, good, plain, strong
from chopmark.artifacts import Digest, read_file, write_file
from chopmark.errors import UsageError
from chopmark.trust import MAX_ROOT_BYTES, MAX_TRUST_BYTES, next_root, open_trust, pinned_root
from chopmark.trust.change import MAX_PROPOSAL_BYTES, Proposal, Standing, decode_proposal, encode_proposal

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.release.trusting import Examined
    from chopmark.trust.change import Progress

BRANCH_PREFIX: Final = "trust/"
F = TypeVar("F", bound=Callable[..., Any])


def with_standing(command: F) -> F:
    """Give *command* the options that say what governs now, where there is no workspace."""
    for option in (
        click.option("--pin", help="The digest of the first --root, from where you wrote it down."),
        click.option(
            "--trust", "trust_file", type=click.Path(path_type=Path), help="The trust.json that the last --root names."
        ),
        click.option(
            "--root",
            "roots",
            multiple=True,
            type=click.Path(path_type=Path),
            help="root.json of now, as you keep it; several, oldest first, where yours is older.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What governs now, and the workspace that says so; None on a machine without one."""

    standing: Standing
    site: Site | None


def read_now(start: Path, roots: Sequence[Path], trust_file: Path | None, pin: str | None) -> Now:
    """Return what governs now.

    Raises:
        UsageError: half of the files, or no workspace either.
        Refused: ``root-untrusted``, ``trust-mismatch``.
    """
    from chopmark.apps.cli.wiring import Site

    if not roots and trust_file is None and pin is None:
        site = Site.at(start)
        return Now(standing=Standing(root=site.root, trust=site.trust), site=site)
    if not roots or trust_file is None:
        raise UsageError("--root and --trust go together", hint="--root 1.root.json --trust 1.trust.json")
    first = read_file(roots[0], max_bytes=MAX_ROOT_BYTES)
    root = pinned_root(first, Digest.parse(pin) if pin else Digest.of(first))
    for path in roots[1:]:
        root = next_root(root, read_file(path, max_bytes=MAX_ROOT_BYTES))
    trust = open_trust(root, read_file(trust_file, max_bytes=MAX_TRUST_BYTES))
    return Now(standing=Standing(root=root, trust=trust), site=None)


def proposal_path(version: int) -> str:
    """Return where a proposal stands on its branch."""
    return f"trust/proposals/{version}.json"


def branch_of(version: int) -> str:
    """Return the branch that a proposal for root *version* stands on."""
    return f"{BRANCH_PREFIX}{version}"


def read_proposal(place: str, now: Now) -> Proposal:
    """Return the proposal in a file, or on a branch of the workspace's repository.

    Raises:
        UsageError: no such file or branch.
        DecodeError: it is no proposal.
    """
    commit = _head(place, now)
    if commit is None or now.site is None:
        return decode_proposal(read_file(Path(place), max_bytes=MAX_PROPOSAL_BYTES))
    path = proposal_path(_version(place))
    data = now.site.git.read(commit, path, max_bytes=MAX_PROPOSAL_BYTES)
    if data is None:
        raise UsageError(f"{place}: has no {path}", hint="make one: chopmark trust change --branch")
    return decode_proposal(data)


def write_proposal(proposal: Proposal, place: str, now: Now, *, message: str) -> str:
    """Write *proposal* to a file, or commit it on a branch; return where it stands."""
    data = encode_proposal(proposal)
    if not place.startswith(BRANCH_PREFIX) or now.site is None:
        write_file(Path(place), data)
        return place
    from chopmark.release import MAIN

    site = now.site
    site.git.commit(
        place,
        {proposal_path(proposal.version): data},
        parent=site.git.head(place) or site.git.head(MAIN),
        message=f"{message}\n\nProposal: {proposal.digest}\n",
        by=site.committer("maintainer"),
        at=site.clock.now(),
    )
    return place


def _head(place: str, now: Now) -> str | None:
    """Return the head of the branch *place*; None where it is a file's name."""
    if now.site is None or not place.startswith(BRANCH_PREFIX) or Path(place).exists():
        return None
    return now.site.git.head(place)


def _version(place: str) -> int:
    number = place.removeprefix(BRANCH_PREFIX)
    if not number.isdecimal() or len(number) > 9:
        raise UsageError(f"{place}: is no branch of a proposal", hint="they are named trust/<version of root>")
    return int(number)


def body(examined: Examined, found: Progress) -> dict[str, object]:
    """Return the JSON of a proposal."""
    proposal = examined.proposal
    return {
        "ok": True,
        "workspace": proposal.workspace,
        "version": proposal.version,
        "base": {"version": proposal.base_version, "sha256": proposal.base},
        "digest": proposal.digest,
        "expires": examined.wanted.expires,
        "channels": list(examined.channels),
        "differences": [
            {"what": d.what, "before": d.before, "after": d.after, "weaker": d.weaker} for d in examined.differences
        ],
        "powers": [{"who": p.who, "before": p.before, "after": p.after} for p in examined.powers if p.changed],
        "signed": list(found.signed),
        "waiting": list(found.waiting),
        "complete": found.complete,
        "rules": {"old": found.old.explain(), "new": found.new.explain(), "targets": found.targets.explain()},
    }


def lines(examined: Examined) -> list[str]:
    """Return what a proposal would do, for a person."""
    proposal = examined.proposal
    changed = [power for power in examined.powers if power.changed]
    return [
        (
            f"{strong(proposal.workspace)}  root {proposal.base_version} → {proposal.version}, "
            f"to be used until {examined.wanted.expires:%Y-%m-%d}"
        ),
        f"  digest {spoken(proposal.digest)}",
        dim("         compare it with the others, aloud; ! marks what asks for less, or gives somebody power"),
        *(f"  {'!' if d.weaker else '·'} {d.explain()}" for d in examined.differences),
        *(["  who can act:"] if changed else []),
        *columns([(power.who, f"{power.before} → {power.after}") for power in changed], indent="    "),
        *(["  nobody can do more or less than before"] if not changed else []),
    ]


def progress_lines(found: Progress) -> list[str]:
    """Return who has signed, for a person."""
    rows = [("by the old rule", found.old), ("by the new rule", found.new), ("targets.json", found.targets)]
    return [
        *(f"  {good(name) if count.met else plain(name)}: {count.explain()}" for name, count in rows),
        *([f"  waiting for: {', '.join(found.waiting)}"] if found.waiting else []),
        (good("complete") if found.complete else bad("not complete yet")),
    ]


def spoken(digest: Digest) -> str:
    """Return *digest* in groups that people can read to one another; all of it: who makes two proposals picks both."""
    return " ".join(digest.hex[i : i + 4] for i in range(0, 64, 4))
