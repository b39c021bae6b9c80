# SPDX-License-Identifier: Apache-2.0
"""What ``keys`` does with a workspace, one function a verb: look at keys, make them, and say what hangs on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from chopmark.apps.cli.releasing import head_of_main
from chopmark.apps.cli.wiring import KeyFile, Site, make_keys, public_half, read_passphrase
from chopmark.artifacts import Digest, read_file
from chopmark.channel.follow import MAX_TARGETS_BYTES, signed_targets
from chopmark.errors import UsageError, VerificationError
from chopmark.keys import Algorithm, PublicKey, read_public_key
from chopmark.release.keyring import Impact, KeyState, KnownKey, able, impact, keyring, sign_again, without
from chopmark.release.live import live_releases

MIN_DIGITS: Final = 4
BOTH: Final = (Algorithm.ED25519, Algorithm.ML_DSA_65)
_MAX_PASSPHRASE_BYTES: Final = 4096
_MAX_PEM_BYTES: Final = 65_536
_LIVE: Final = (KeyState.CURRENT, KeyState.EXPIRING, KeyState.EXPIRED)


def site_or_none(start: Path, *, needed: bool) -> Site | None:
    """Return the workspace that *start* is in; None where there is none and none is needed."""
    try:
        return Site.at(start)
    except UsageError as error:
        if needed or error.code != "no-workspace":
            raise
        return None


def new_passphrase(file: Path | None) -> bytes:
    """Return the passphrase for new keys: the first line of *file*, or what a person types, twice.

    Raises:
        UsageError: it is empty, or others may read the file.
    """
    if file is not None:
        return read_passphrase(file)
    typed: str = click.prompt("passphrase", hide_input=True, confirmation_prompt=True, err=True)
    if not typed:
        raise UsageError("the passphrase is empty", hint="leave --encrypt out for keys that are not encrypted")
    return typed.encode()


def ids_here(site: Site) -> frozenset[str]:
    """Return the ids of the keys whose private half is on this machine."""
    owners = {key.owner for key in known_keys(site)}
    return frozenset(key.public.keyid for owner in owners for key in site.keys_here(owner))


def key_json(key: KnownKey) -> dict[str, object]:
    """Return what is known about a key, for programs."""
    old = key.retired
    return {
        "owner": key.owner,
        "algorithm": key.key.algorithm,
        "keyid": key.keyid,
        "state": key.state,
        "expires": key.expires,
        "days_left": key.days_left,
        "roles": list(key.roles),
        "retired": None if old is None else {"reason": old.reason, "log": old.log, "until": old.until},
    }


def impact_json(found: Impact) -> dict[str, object]:
    """Return what is lost with some keys, for programs."""
    return {
        "keys": [key_json(key) for key in found.keys],
        "roles": [{"role": r.role, "needed": r.k, "able": r.able, "lost": r.lost} for r in found.roles],
        "releases": [
            {
                "release": one.live.release.digest,
                "model": one.live.release.model,
                "version": one.live.release.version,
                "assigned": one.live.assigned,
                "fallback_of": one.live.fallback_of,
                "before": one.before.counted,
                "after": one.after.counted,
                "needed": one.after.k,
                "lost": one.lost,
            }
            for one in found.releases
        ],
        "sign_again": [one.live.release.digest for one in found.lost],
        "files": found.files,
        "signed": [{"index": s.index, "type": s.type, "subject": s.subject, "digest": s.digest} for s in found.signed],
        "powers": {name: {"worst": worst, "limit": limit} for name, (worst, limit) in found.powers.items()},
    }


def known_keys(site: Site) -> tuple[KnownKey, ...]:
    """Return every key that trust.json knows, with its state now."""
    return keyring(site.trust, now=site.clock.now())


def find_keys(site: Site, text: str) -> tuple[KnownKey, ...]:
    """Return the keys that *text* names: an owner's, one by the first digits of its id, or the one in a PEM file.

    Raises:
        UsageError: none, or several ids begin like that.
    """
    known = known_keys(site)
    if of_owner := tuple(key for key in known if key.owner == text):
        return of_owner
    prefix = read_any_public(Path(text)).keyid if _is_file(text) else text.lower()
    found = tuple(key for key in known if key.keyid.startswith(prefix)) if len(prefix) >= MIN_DIGITS else ()
    if len(found) != 1:
        hint = "see: chopmark keys list"
        what = f"names {len(found)} keys of trust.json" if found else "is no owner and no key of trust.json"
        raise UsageError(f"{text[:80] or 'nothing'}: {what}", code="no-key", hint=hint)
    return found


def _is_file(text: str) -> bool:
    try:
        return bool(text) and Path(text).is_file()
    except (OSError, ValueError):  # longer than a name can be, or no name at all
        return False


def read_any_public(path: Path) -> PublicKey:
    """Return the public key in a PEM file, whichever half it holds.

    Raises:
        UsageError: it holds neither.
    """
    data = read_file(path, max_bytes=_MAX_PEM_BYTES)
    try:
        return read_public_key(data)
    except VerificationError:
        if b"PRIVATE KEY-----" not in data:
            raise UsageError(f"{path}: is no key", code="no-key", hint="a PEM file, either half") from None
        return public_half(path)


def signing_files(site: Site) -> Mapping[str, Collection[str]]:
    """Return TUF role -> ids of the keys that sign it: root's four, and what targets.json delegates."""
    found = {name: set(role.keyids) for name, role in site.root.tuf.roles.items()}
    if site.workspace.targets.exists():
        targets = signed_targets(site.root, read_file(site.workspace.targets, max_bytes=MAX_TARGETS_BYTES))
        roles = targets.delegations.roles if targets.delegations is not None else None
        found |= {name: set(role.keyids) for name, role in (roles or {}).items()}
    return found


def impact_of(site: Site, keys: Sequence[KnownKey], *, since: int = 0) -> Impact:
    """Return what is lost with *keys*: read from main, the ledger, root and targets."""
    return impact(
        keys,
        site.trust,
        live=live_releases(site.git, head_of_main(site), workspace=site.workspace.name),
        entries=site.statements(),
        files=signing_files(site),
        root=site.root.rule,
        since=since,
    )


def wanted_algorithms(site: Site | None, owner: str, asked: Sequence[str], *, hybrid: bool) -> tuple[Algorithm, ...]:
    """Return what to make keys of: what was asked for, or what *owner* has now; for a stranger, a hybrid pair."""
    if hybrid and asked:
        raise UsageError("--hybrid says which algorithms already", hint="give one of --hybrid and --algorithm")
    if asked:
        return tuple(dict.fromkeys(Algorithm(name) for name in asked))
    held = site.trust.owners.get(owner) if site is not None else None
    if hybrid or held is None or not held.keys:
        return BOTH
    return tuple(dict.fromkeys(key.algorithm for key in held.keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a change of keys asks trust.json to say.

    Attributes:
        add: owner -> new keys, each with a full life from now.
        retire: keys that go.
        until: index in the active ledger that they counted to.
    """

    add: Mapping[str, tuple[PublicKey, ...]]
    retire: tuple[KnownKey, ...] = ()
    reason: str = "superseded"
    until: int = 0


def fresh_keys(site: Site, owner: str) -> tuple[KeyFile, ...]:
    """Return the keys of *owner* that are on this machine and that trust.json does not know: made, not yet proposed."""
    known = {key.keyid for key in known_keys(site)}
    return tuple(key for key in site.keys_here(owner) if key.public.keyid not in known)


def overlap(site: Site, owner: str, asked: Sequence[str], *, passphrase: Callable[[], bytes] | None = None) -> Turn:
    """Return the first half of a rotation: a fresh key of each algorithm beside those that *owner* has.

    Fresh keys that are on this machine are taken: an earlier attempt made them, or `keys new` did.

    Raises:
        UsageError: ``no-owner``: trust.json has no such owner.
    """
    if owner not in site.trust.owners:
        raise UsageError(f"{owner[:80]}: trust.json has no such owner", code="no-owner", hint="chopmark keys list")
    wanted = wanted_algorithms(site, owner, asked, hybrid=False)
    fresh = {key.public.algorithm: key.public for key in fresh_keys(site, owner)}
    missing = [algorithm for algorithm in wanted if algorithm not in fresh]
    if missing:
        folder = site.workspace.owner_keys(owner)
        made = make_keys(folder, missing, passphrase=None if passphrase is None else passphrase())
        fresh |= {key.public.algorithm: key.public for key in made}
    return Turn(add={owner: tuple(fresh[algorithm] for algorithm in wanted)})


def finish(site: Site, owner: str) -> Turn:
    """Return the second half of a rotation: of each algorithm the newest key stays, the others are superseded.

    Raises:
        UsageError: ``rotation-unfinished``: there is nothing to take away: the new key is not in trust.json.
        VerificationError: ``releases-would-stop``: live releases still rest on the old keys.
    """
    held = [key for key in known_keys(site) if key.owner == owner and key.state in _LIVE]
    newest = {key.key.algorithm: key for key in held}  # trust.json keeps them in the order in which they came
    going = tuple(key for key in held if newest[key.key.algorithm] is not key)
    if not going:
        raise UsageError(
            f"{owner}: has one key of each algorithm; there is no old one to take away",
            code="rotation-unfinished",
            hint=f"first: chopmark keys rotate {owner}, and have its proposal signed and applied",
        )
    check_releases(impact_of(site, going))
    return Turn(add={}, retire=going, until=site.ledger.checkpoint.size)


def revocation(site: Site, keys: Sequence[KnownKey], *, reason: str, since: int | None) -> Turn:
    """Return what takes *keys* out of use, with whatever fresh key of their owners is on this machine in their place.

    Args:
        since: entries below it still count; None: the ledger's size for a superseded key, 0 for a compromised one, as
            nobody knows since when somebody else has it.

    Raises:
        UsageError: a key is retired already; *since* is beyond the ledger; a role could not be met any more.
    """
    size = site.ledger.checkpoint.size
    gone = [key for key in keys if key.state is KeyState.RETIRED]
    if gone:
        raise UsageError(
            f"key {gone[0].keyid[:16]} of {gone[0].owner} is retired already",
            code="key-retired",
            hint="chopmark keys list",
        )
    if since is not None and since > size:
        raise UsageError(f"--since {since}: the ledger has {size} entries", hint="chopmark ledger entries")
    owners = dict.fromkeys(key.owner for key in keys)
    add = {owner: tuple(key.public for key in fresh_keys(site, owner)) for owner in owners}
    _check_roles(site, keys, add)
    until = since if since is not None else (size if reason == "superseded" else 0)
    return Turn(add={o: k for o, k in add.items() if k}, retire=tuple(keys), reason=reason, until=until)


def check_releases(found: Impact) -> None:
    """Check that no live release would lose its approvals.

    Raises:
        VerificationError: ``releases-would-stop``, with the releases and who still counts for each.
    """
    if found.lost:
        names = [f"{one.live.release.model} v{one.live.release.version}" for one in found.lost]
        raise VerificationError(
            f"to be signed again first: {', '.join(names)}",
            code="releases-would-stop",
            hint=sign_again(found, found.lost[0]),
            evidence={"releases": [str(one.live.release.digest) for one in found.lost]},
        )


def _check_roles(site: Site, keys: Sequence[KnownKey], add: Mapping[str, tuple[PublicKey, ...]]) -> None:
    after = without(site.trust, {key.keyid for key in keys})
    for role in after.roles.values():
        there = set(able(after, role.name))
        there |= {owner for owner, fresh in add.items() if owner in role.owners and fresh}
        if len(there) < role.k:
            owner = next(key.owner for key in keys if key.owner in role.owners)
            raise UsageError(
                f"role {role.name} asks for {role.k} owners, and {len(there)} could still sign",
                code="role-unmeetable",
                hint=f"make the key that takes its place first: chopmark keys new {owner}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A change of trust that was written down for root owners to sign.

    Attributes:
        place: a file, or a branch.
        waiting: root owners whose signature would help.
    """

    place: str
    version: int
    digest: Digest
    waiting: tuple[str, ...]


def propose_turn(site: Site, turn: Turn, *, branch: bool, out: Path | None, stop_releases: bool = False) -> Proposed:
    """Write down what *turn* asks for as a proposal.

    Raises:
        UsageError: a file is in the way; a role could not be met.
        VerificationError: ``releases-would-stop``; a key that has expired would stay.
    """
    from chopmark.apps.cli.trust.places import Now, branch_of, write_proposal
    from chopmark.release.trusting import losing, propose, refuse_losing
    from chopmark.trust import RetiredFor
    from chopmark.trust.change import Standing, progress, unchanged
    from chopmark.trust.edit import add_key, remove_key

    standing, now = Standing(root=site.root, trust=site.trust), site.clock.now()
    wanted = unchanged(standing)
    end = now + timedelta(seconds=site.trust.limits.key_life_s)
    for owner, fresh in turn.add.items():
        for key in fresh:
            wanted = add_key(wanted, owner, key, expires=end)
    for old in turn.retire:
        reason, log = RetiredFor(turn.reason), site.trust.active_log.origin
        wanted = remove_key(wanted, old.keyid, reason=reason, until=turn.until, log=log)
    targets = read_file(site.workspace.targets, max_bytes=MAX_TARGETS_BYTES)
    done = propose(standing, wanted, targets=targets, now=now)
    if not stop_releases and turn.retire:
        live = live_releases(site.git, head_of_main(site), workspace=site.workspace.name)
        refuse_losing(losing(live, site.trust, done.wanted.trust))
    place = branch_of(done.proposal.version) if branch else str(out or f"trust-{done.proposal.version}.proposal.json")
    if not branch and Path(place).exists():
        raise UsageError(f"{place}: exists", hint="name another with --out, or remove it")
    message = f"Propose trust {done.proposal.version}"
    write_proposal(done.proposal, place, Now(standing=standing, site=site), message=message)
    return Proposed(
        place=place,
        version=done.proposal.version,
        digest=done.proposal.digest,
        waiting=progress(standing, done.proposal).waiting,
    )


def proposed_json(done: Proposed, turn: Turn) -> dict[str, object]:
    """Return a proposal about keys, for programs."""
    return {
        "ok": True,
        "proposal": done.place,
        "version": done.version,
        "digest": done.digest,
        "waiting": done.waiting,
        "add": [{"owner": o, "keyid": k.keyid, "algorithm": k.algorithm} for o, keys in turn.add.items() for k in keys],
        "retire": [{"owner": k.owner, "keyid": k.keyid, "algorithm": k.key.algorithm} for k in turn.retire],
        "reason": turn.reason if turn.retire else None,
        "until": turn.until if turn.retire else None,
    }


def current_keys(site: Site, text: str) -> tuple[KnownKey, ...]:
    """Return what :func:`find_keys` returns; of an owner, only the keys that are not retired."""
    found = find_keys(site, text)
    live = tuple(key for key in found if key.state is not KeyState.RETIRED)
    return live or found


def use_newest_for_git(site: Site, owner: str) -> None:
    """Let *owner* sign commits with the newest Ed25519 key, where their commit key is on this machine."""
    if not (site.workspace.owner_keys(owner) / "git").exists():
        return
    counted = {key.keyid: n for n, key in enumerate(site.trust.owners[owner].keys)}
    ours = [
        file
        for file in site.keys_here(owner)
        if file.public.keyid in counted and file.public.algorithm is Algorithm.ED25519
    ]
    if ours:
        site.use_for_git(owner, max(ours, key=lambda file: counted[file.public.keyid]))
