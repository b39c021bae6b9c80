# SPDX-License-Identifier: Apache-2.0
"""The options of ``trust change`` as edits. Not a command."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from chopmark import canonical
from chopmark.artifacts import Digest, read_file
from chopmark.clock import parse_time
from chopmark.documents import read_document
from chopmark.errors import UsageError
from chopmark.keys import read_public_key
from chopmark.trust import MAX_TRUST_BYTES, Frozen, LogKeys, RetiredFor, decode_trust
from chopmark.trust import edit as edits
from chopmark.trust.change import Wanted

ROOT_LIFE: Final = timedelta(days=365)
_MAX_KEY_BYTES: Final = 16_384


class _Frozen(canonical.Strict, frozen=True, kw_only=True):
    size: int
    root: str


class _Log(canonical.Strict, frozen=True, kw_only=True):
    origin: str
    require: list[str]
    frozen: _Frozen | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was given on the command line.

    Attributes:
        until: index in the ledger for keys that are retired; None: what the reason gives.
        ledger: origin and size of the ledger now, where it is at hand.
    """

    now: datetime
    ledger: tuple[str, int | None]
    from_file: Path | None = None
    add_owners: tuple[str, ...] = ()
    add_keys: tuple[str, ...] = ()
    key_expires: str | None = None
    remove_keys: tuple[str, ...] = ()
    remove_owners: tuple[str, ...] = ()
    reason: str | None = None
    until: int | None = None
    roles: tuple[tuple[str, str], ...] = ()
    root_owners: str | None = None
    root_k: int | None = None
    logs: Path | None = None
    witness_policy: Path | None = None
    limits: tuple[str, ...] = ()
    expires: str | None = None
    renew: bool = False
    reset: bool = False


def edited(wanted: Wanted, options: Options) -> Wanted:
    """Return *wanted* after all that *options* say.

    Raises:
        UsageError, DecodeError: an option that cannot be carried out.
    """
    if options.from_file is not None:
        wanted = replace(wanted, trust=decode_trust(_read_trust(options.from_file)))
    for name in options.add_owners:
        wanted = edits.add_owner(wanted, name)
    for text in options.add_keys:
        owner, path = _pair(text, "--add-key", "OWNER=new.pem")
        key = read_public_key(read_file(Path(path), max_bytes=_MAX_KEY_BYTES))
        wanted = edits.add_key(wanted, owner, key, expires=_key_end(wanted, options))
    wanted = _roles(wanted, options)
    wanted = _removed(wanted, options)
    if options.logs is not None:
        wanted = _logs(wanted, options.logs)
    if options.witness_policy is not None:
        text = read_file(options.witness_policy, max_bytes=MAX_TRUST_BYTES).decode("utf-8", "replace")
        wanted = replace(wanted, trust=replace(wanted.trust, witness_policy=text))
    if options.limits:
        pairs = [_pair(text, "--limit", "NAME=SECONDS") for text in options.limits]
        wanted = edits.change_limits(wanted, {name: _number(value, "--limit") for name, value in pairs})
    if options.expires is not None or options.renew:
        end = _moment(options.expires, "--expires") if options.expires else options.now + ROOT_LIFE
        wanted = replace(wanted, expires=end)
    return replace(wanted, reset=wanted.reset + 1) if options.reset else wanted


def _roles(wanted: Wanted, options: Options) -> Wanted:
    for name, text in options.roles:
        member, value = _pair(text, f"--role {name}", "k=3, or owners=a,b,c")
        if member == "k":
            wanted = edits.change_role(wanted, name, k=_number(value, "--role"))
        elif member == "owners":
            wanted = edits.change_role(wanted, name, owners=_names(value))
        else:
            raise UsageError(f"--role {name} {text[:80]}: k=3, or owners=a,b,c", hint="anything else: --from")
    owners = _names(options.root_owners) if options.root_owners is not None else None
    if owners is not None or options.root_k is not None:
        wanted = edits.change_root(wanted, owners=owners, k=options.root_k)
    return wanted


def _removed(wanted: Wanted, options: Options) -> Wanted:
    if not options.remove_keys and not options.remove_owners:
        return wanted
    if options.reason is None:
        raise UsageError("why are these keys removed?", hint="--reason superseded, or --reason compromised")
    reason = RetiredFor(options.reason)
    log, size = options.ledger
    until = options.until
    if until is None and reason is RetiredFor.COMPROMISED:
        until = 0
    elif until is None:
        until = size
    if until is None:
        raise UsageError(
            "up to which entry of the ledger was the key its owner's alone?",
            hint="--until INDEX: the ledger's size when it was used last, or 0 where nobody knows",
        )
    for keyid in options.remove_keys:
        wanted = edits.remove_key(wanted, keyid.removeprefix("sha256:"), reason=reason, until=until, log=log)
    for name in options.remove_owners:
        wanted = edits.remove_owner(wanted, name, reason=reason, until=until, log=log)
    return wanted


def _logs(wanted: Wanted, path: Path) -> Wanted:
    """Take over what ``ledger freeze --json`` or ``ledger rotate --json`` printed."""
    what = str(path)
    said = canonical.decode(read_file(path, max_bytes=MAX_TRUST_BYTES), what=what, max_bytes=MAX_TRUST_BYTES)
    if not isinstance(said, dict):
        raise UsageError(f"{what}: is not what `chopmark ledger rotate --json` prints")
    if "logs" not in said:
        frozen = canonical.convert({name: said.get(name) for name in ("size", "root")}, _Frozen, what=what)
        root = Digest(canonical.decode_base64(frozen.root, what=what))
        return edits.freeze_log(wanted, str(said.get("origin")), Frozen(size=frozen.size, root=root))
    for log in canonical.convert(said["logs"], list[_Log], what=what):
        if log.frozen is None:
            wanted = edits.add_log(wanted, LogKeys(origin=log.origin, require=tuple(log.require)))
        elif any(known.origin == log.origin and known.active for known in wanted.trust.logs):
            end = Frozen(size=log.frozen.size, root=Digest.parse(log.frozen.root))
            wanted = edits.freeze_log(wanted, log.origin, end)
    lines = canonical.convert(said.get("policy", []), list[str], what=what)
    known = wanted.trust.witness_policy
    fresh = "".join(f"{line}\n" for line in lines if line not in known.splitlines())
    return replace(wanted, trust=replace(wanted.trust, witness_policy=fresh + known))


def _read_trust(path: Path) -> bytes:
    data = read_file(path, max_bytes=MAX_TRUST_BYTES)
    if path.suffix in {".yaml", ".yml"}:
        return json.dumps(read_document(data, what=str(path))).encode()
    return data


def _key_end(wanted: Wanted, options: Options) -> datetime | None:
    if options.key_expires == "never":
        return None
    if options.key_expires is not None:
        return _moment(options.key_expires, "--key-expires")
    return options.now + timedelta(seconds=wanted.trust.limits.key_life_s)


def _moment(text: str, option: str) -> datetime:
    """Read a day, or a moment of one."""
    return parse_time(f"{text}T00:00:00Z" if len(text) == 10 else text, what=option)


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not name or not mark or not value:
        raise UsageError(f"{option} {text[:80]}: is not {form}")
    return name, value


def _number(text: str, option: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise UsageError(f"{option}: {text[:40]} is no number")
    return int(text)


def _names(text: str) -> list[str]:
    return [name for name in _words(text.split(",")) if name]


def _words(words: Iterable[str]) -> Iterable[str]:
    return (word.strip() for word in words)
