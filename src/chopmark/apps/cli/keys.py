# SPDX-License-Identifier: Apache-2.0
"""``keys``: which keys are here, and what they may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.public import public
from chopmark.apps.cli.render import Answer, answers, bad, columns, counted, dim, good, say, strong
from chopmark.canonical import check_name
from chopmark.keys import Algorithm
from chopmark.release.keyring import Impact, KeyState, KnownKey, ReleaseImpact, sign_again
from chopmark.statements import short_type

if TYPE_CHECKING:
    from chopmark.apps.cli.keyring import Proposed, Turn

ALGORITHMS: Final = [str(algorithm) for algorithm in Algorithm]
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)


def _proposing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the options that say where its proposal goes."""
    out = click.option("--out", type=_FILE, help="Where to write the proposal; default: trust-N.proposal.json.")
    return click.option("--branch", is_flag=True, help="…or commit it on a branch trust/N.")(out(command))


@click.group(cls=Group)
def keys() -> None:
    """The keys of this workspace, over their whole life. Private halves never leave their files.

    \b
    Example:
        chopmark keys list
        chopmark keys impact owner-c
        chopmark keys rotate owner-c
    """


@keys.command("list")
@click.option("--retired", is_flag=True, help="Show the keys of before too.")
@click.pass_obj
@answers
def list_(start: Path, *, retired: bool) -> Answer:
    """List the keys that trust.json knows: how long each is used, and which are on this machine.

    \b
    Example:
        chopmark keys list --json
    """
    from chopmark.apps.cli import keyring
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    here = keyring.ids_here(site)
    known = [key for key in keyring.known_keys(site) if retired or key.retired is None]
    body = {"ok": True, "keys": [keyring.key_json(key) | {"here": key.keyid in here} for key in known]}
    rows = [
        (
            key.owner,
            str(key.key.algorithm),
            key.keyid[:16],
            "here" if key.keyid in here else dim("elsewhere"),
            _state(key),
            ", ".join(key.roles),
        )
        for key in known
    ]
    return body, columns([("owner", "algorithm", "key id", "private half", "state", "roles"), *rows])


@keys.command("show")
@click.argument("which")
@click.pass_obj
@answers
def show_keys(start: Path, which: str) -> Answer:
    """Show WHICH keys (an owner, a key id, a file): what they may say, have said, and can do in the wrong hands.

    \b
    Example:
        chopmark keys show owner-a
        chopmark keys show 3fa1c2d4
    """
    from chopmark.apps.cli import keyring
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    found = keyring.find_keys(site, which)
    here = keyring.ids_here(site)
    body, lines = [], []
    for key in found:
        one = keyring.impact_of(site, [key])
        roles = [site.trust.roles[name] for name in key.roles]
        may = {role.name: [short_type(p) for p in role.predicates] for role in roles}
        last = one.signed[-1].index if one.signed else None
        body.append(
            keyring.key_json(key)
            | {
                "here": key.keyid in here,
                "may_say": may,
                "files": one.files,
                "signed": len(one.signed),
                "last_index": last,
                "powers": {name: {"worst": worst, "limit": limit} for name, (worst, limit) in one.powers.items()},
            }
        )
        lines += [f"{strong(key.owner)}  {key.key.algorithm}  {key.keyid}"]
        rows = [("state", _state(key) + ("" if key.keyid in here else "; the private half is elsewhere"))]
        rows += [("may say", f"{', '.join(said)}  as {name}") for name, said in may.items() if said]
        rows += [("signs", ", ".join(one.files))] if one.files else []
        rows += [("signed", _said(one))]
        rows += [("a thief", f"{worst}  as {name}") for name, (worst, _) in one.powers.items()]
        lines += columns(rows, indent="  ")
    return {"ok": True, "keys": body}, lines


@keys.command()
@click.argument("owner")
@click.option("--algorithm", "algorithms", multiple=True, type=click.Choice(ALGORITHMS), help="May be given twice.")
@click.option("--hybrid", is_flag=True, help="Both an Ed25519 and an ML-DSA-65 key.")
@click.option("--encrypt", is_flag=True, help="Ask for a passphrase, and encrypt the files with it.")
@click.option("--passphrase-file", type=_FILE, help="…or read it from the first line of this file (mode 0600).")
@click.option("--out", type=_FOLDER, help="Where to put them; default: the owner's folder of this workspace.")
@click.pass_obj
@answers
def new(
    start: Path,
    owner: str,
    algorithms: tuple[str, ...],
    *,
    hybrid: bool,
    encrypt: bool,
    passphrase_file: Path | None,
    out: Path | None,
) -> Answer:
    """Make keys for OWNER on this machine, for their owner's eyes only; nobody counts them yet.

    Without --algorithm: what OWNER has keys of now, or the hybrid pair. Works outside of a workspace with --out.

    \b
    Example:
        chopmark keys new owner-d --hybrid --encrypt --out ~/keys
    """
    from chopmark.apps.cli import keyring
    from chopmark.apps.cli.wiring import make_keys

    check_name(owner, what="owner")
    site = keyring.site_or_none(start, needed=out is None)
    wanted = keyring.wanted_algorithms(site, owner, algorithms, hybrid=hybrid)
    passphrase = keyring.new_passphrase(passphrase_file) if encrypt or passphrase_file else None
    folder = out if out is not None or site is None else site.workspace.owner_keys(owner)
    made = make_keys(folder or start, wanted, passphrase=passphrase)
    body = {
        "ok": True,
        "owner": owner,
        "encrypted": passphrase is not None,
        "keys": [
            {"keyid": k.public.keyid, "algorithm": k.public.algorithm, "private": k.path, "public": k.public_path}
            for k in made
        ],
    }
    add = " ".join(f"--add-key {owner}={key.public_path}" for key in made)
    if site is not None and owner not in site.trust.owners:
        add = f"--add-owner {owner} {add}"
    return body, [
        *(good(f"{key.public.algorithm}  {key.public.keyid[:16]}  {key.path}") for key in made),
        f"  public {'halves' if len(made) > 1 else 'half'}  {', '.join(str(key.public_path) for key in made)}",
        f"  next: chopmark trust change {add}",
        *(
            ["  in the workspace; for an owner that trust.json does not have yet, --add-owner too"]
            if site is None
            else []
        ),
    ]


@keys.command()
@click.argument("which")
@click.option("--since", type=click.IntRange(0), default=0, help="Statements from this ledger index on.")
@click.pass_obj
@answers
def impact(start: Path, which: str, since: int) -> Answer:
    """Say what is lost with WHICH keys: roles, live releases, statements; what a thief can do, and what to do next.

    Nothing is changed. An owner stands for all of their keys.

    \b
    Example:
        chopmark keys impact owner-c
        chopmark keys impact 3fa1c2d4 --since 120
    """
    from chopmark.apps.cli import keyring
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    found = keyring.impact_of(site, keyring.find_keys(site, which), since=since)
    return {"ok": True, **keyring.impact_json(found)}, [*_impact_lines(found), *_next(found)]


@keys.command()
@click.argument("owner")
@click.option("--finish", is_flag=True, help="The second half: take the old keys away, now that the new ones count.")
@click.option("--algorithm", "algorithms", multiple=True, type=click.Choice(ALGORITHMS), help="Only keys of these.")
@click.option("--encrypt", is_flag=True, help="Ask for a passphrase, and encrypt new files with it.")
@click.option("--passphrase-file", type=_FILE, help="…or read it from the first line of this file (mode 0600).")
@_proposing
@click.pass_obj
@answers
def rotate(
    start: Path,
    owner: str,
    *,
    finish: bool,
    algorithms: tuple[str, ...],
    encrypt: bool,
    passphrase_file: Path | None,
    branch: bool,
    out: Path | None,
) -> Answer:
    """Replace the keys of OWNER, in two halves, so that old and new keys overlap.

    First: makes new keys here, and proposes them beside the old ones; new keys that are here already are taken. With
    --finish, when that proposal was applied: proposes that the old ones go, as superseded. What they signed until now
    stays believed, as history.

    \b
    Example:
        chopmark keys rotate tester
        chopmark trust sign trust-2.proposal.json --keys KEYS   and so on, then trust apply
        chopmark keys rotate tester --finish
    """
    from chopmark.apps.cli import keyring
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    if finish:
        turn = keyring.finish(site, owner)
    else:
        locked = encrypt or passphrase_file is not None
        secret = (lambda: keyring.new_passphrase(passphrase_file)) if locked else None
        turn = keyring.overlap(site, owner, algorithms, passphrase=secret)
    done = keyring.propose_turn(site, turn, branch=branch, out=out)
    if finish:
        keyring.use_newest_for_git(site, owner)
    after = f"chopmark keys rotate {owner} --finish   when it is applied and open releases are merged"
    return keyring.proposed_json(done, turn), _proposed_lines(done, turn, after="" if finish else after)


@keys.command()
@click.argument("which", nargs=-1, required=True)
@click.option("--reason", type=click.Choice(["compromised", "superseded"]), required=True, help="Why.")
@click.option(
    "--since",
    type=click.IntRange(0),
    help="Ledger entries below it still count; default: all of now where superseded, none where compromised.",
)
@click.option("--stop-releases", is_flag=True, help="Let live releases lose their approval: devices refuse them.")
@_proposing
@click.pass_obj
@answers
def revoke(
    start: Path,
    which: tuple[str, ...],
    *,
    reason: str,
    since: int | None,
    stop_releases: bool,
    branch: bool,
    out: Path | None,
) -> Answer:
    """Take WHICH keys (ids, files, or an owner for all of theirs) out of use: say what is lost, and make the proposal.

    Nothing is revoked until root owners have signed the proposal and it is applied. New keys of the same owner that are
    on this machine (keys new) take their place in the same proposal. Refused while live releases rest on the keys.

    \b
    Example:
        chopmark keys impact tester
        chopmark keys new tester
        chopmark keys revoke tester --reason compromised --since 120
    """
    from chopmark.apps.cli import keyring
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    found = tuple({k.keyid: k for text in which for k in keyring.current_keys(site, text)}.values())
    lost = keyring.impact_of(site, found)
    for line in _impact_lines(lost):
        say(line)
    turn = keyring.revocation(site, found, reason=reason, since=since)
    if not stop_releases:
        keyring.check_releases(lost)
    done = keyring.propose_turn(site, turn, branch=branch, out=out, stop_releases=stop_releases)
    body = keyring.proposed_json(done, turn) | {"impact": keyring.impact_json(lost)}
    return body, _proposed_lines(done, turn, after="")


def _proposed_lines(done: Proposed, turn: Turn, *, after: str) -> list[str]:
    lines = [good(f"new: {key.algorithm}  {key.keyid[:16]}  of {o}") for o, keys in turn.add.items() for key in keys]
    lines += [
        good(f"goes: {old.key.algorithm}  {old.keyid[:16]}  of {old.owner}, {turn.reason}; {_counts_until(turn)}")
        for old in turn.retire
    ]
    steps = [
        f"chopmark trust sign {done.place} --keys FOLDER   on the machines of root owners: {', '.join(done.waiting)}",
        f"chopmark trust apply {done.place}",
        *([after] if after else []),
    ]
    return [
        *lines,
        f"  {done.place} for root {done.version}; nothing has changed yet",
        "  next",
        *(f"    {s}" for s in steps),
    ]


def _counts_until(turn: Turn) -> str:
    return f"entries below {turn.until} still count" if turn.until else "nothing that it signed counts"


def _state(key: KnownKey) -> str:
    if key.retired is not None:
        old = key.retired
        counts = f"counts below entry {old.until}" if old.until else "counts for nothing"
        return f"retired, {old.reason}: {counts} of {old.log}"
    if key.expires is None:
        return "no expiry"
    if key.state is KeyState.EXPIRED:
        return bad(f"expired {key.expires:%Y-%m-%d}")
    left = f"until {key.expires:%Y-%m-%d}, {counted(key.days_left or 0, 'day')} left"
    return f"{left}: rotate it" if key.state is KeyState.EXPIRING else left


def _said(found: Impact) -> str:
    if not found.signed:
        return "no statement in the ledger"
    first, last = found.signed[0].index, found.signed[-1].index
    where = f"entry {first}" if first == last else f"entry {first} to {last}"
    return f"{counted(len(found.signed), 'statement')} in the ledger, {where}"


def _impact_lines(found: Impact) -> list[str]:
    lines = [f"{strong(key.owner)}  {key.key.algorithm}  {key.keyid[:16]}  {_state(key)}" for key in found.keys]
    rows: list[tuple[str, str]] = []
    for role in found.roles:
        who = f"{', '.join(role.able) or 'nobody'} could still sign; {role.k} needed"
        rows.append((f"role {role.role}", bad(who) if role.lost else good(who)))
    rows += [(_release_name(one), _release_line(one)) for one in found.releases]
    if not found.releases:
        rows.append(("releases", good("no live release was approved with it")))
    rows += [("signs", ", ".join(found.files))] if found.files else []
    rows.append(("signed", _said(found)))
    for name, (worst, limit) in found.powers.items():
        rows += [("a thief can", f"{worst}  (as {name})"), ("", dim(f"limit: {limit}"))]
    return [*lines, *columns(rows, indent="  ")]


def _release_name(one: ReleaseImpact) -> str:
    return f"{one.live.release.model} v{one.live.release.version}"


def _release_line(one: ReleaseImpact) -> str:
    where = f"assigned in {', '.join(one.live.assigned)}" if one.live.assigned else "a fallback"
    left = ", ".join(one.after.counted) or "nobody"
    if one.lost:
        return bad(f"{where}: only {left} of {one.after.k} would count: to be signed again")
    if not one.after.met:
        return bad(f"{where}: is not approved now either: {left} of {one.after.k}")
    return good(f"{where}: stays approved, by {left}")


def _next(found: Impact) -> list[str]:
    steps = [f"{sign_again(found, one)}   {_release_name(one)}, with other keys" for one in found.lost]
    current = [key for key in found.keys if key.retired is None]
    owners = dict.fromkeys(key.owner for key in current)
    steps += [f"chopmark keys new {owner}   what takes the place of the old key" for owner in owners]
    if current:
        which = " ".join(key.keyid[:16] for key in current)
        steps.append(f"chopmark keys revoke {which} --reason compromised --since INDEX")
    return ["  next", *(f"    {step}" for step in steps)] if steps else []


keys.add_command(public)
