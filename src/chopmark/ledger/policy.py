# SPDX-License-Identifier: Apache-2.0
"""Which witnesses are enough. C2SP tlog-policy.

Decides whether a set of witnesses makes the quorum, and since when. The ``log`` lines are alternatives: any one log
key makes a checkpoint valid for *this* file; that several are required together is said elsewhere (trust.json).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from chopmark.errors import DecodeError, printable
from chopmark.ledger.note import LineKind, VerifierKey

MAX_POLICY_BYTES = 1024 * 1024
MAX_ITEMS = 256
"""Logs, witnesses and groups together; the specification asks for at least 32 of each."""
_FORBIDDEN = re.compile(rb"[^\x09\x0a\x20-\x7e\x80-\xff]")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,3}")
_LOG_KINDS = (LineKind.ED25519, LineKind.ML_DSA_44)
_WITNESS_KINDS = (LineKind.COSIGNATURE, LineKind.ML_DSA_44)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLog:
    """A ``log`` line."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWitness:
    """A ``witness`` line; *name* has no meaning outside the policy."""

    name: str
    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGroup:
    """A ``group`` line: at least *k* of *members*."""

    name: str
    k: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessPolicy:
    """Logs, witnesses, groups in the order of the file, and the name that is the quorum (or ``none``)."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str

    @classmethod
    def parse(cls, text: str | bytes) -> WitnessPolicy:
        """Read a policy file; every line ends with a newline, so that a file cut short is noticed.

        Raises:
            DecodeError: malformed, a name that is unknown, defined twice or a member twice, a duplicate key,
                or not exactly one quorum.
        """
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        if len(data) > MAX_POLICY_BYTES or _FORBIDDEN.search(data) or not data.endswith(b"\n"):
            raise DecodeError("policy: too long, a control character, or a last line without its end")
        reader = _Reader()
        # Names are opaque bytes: two names are one only where their bytes are.
        for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), start=1):
            words = [word for word in re.split(r"[ \t]+", line) if word]
            if words and not words[0].startswith("#"):
                reader.read(number, words)
        return reader.finish()

    def satisfied(self, cosigners: Collection[str]) -> bool:
        """Tell whether the witnesses with these policy names make the quorum."""
        if self.quorum == "none":
            return True
        met = {witness.name for witness in self.witnesses} & set(cosigners)
        for group in self.groups:  # members stand before their group
            if sum(member in met for member in group.members) >= group.k:
                met.add(group.name)
        return self.quorum in met

    def within(self, names: Iterable[str]) -> frozenset[str]:
        """Return the witnesses that *names* mean: witnesses, and all that groups hold.

        Raises:
            DecodeError: a name that the policy does not define.
        """
        held = {witness.name: frozenset({witness.name}) for witness in self.witnesses}
        for group in self.groups:  # members stand before their group
            held[group.name] = frozenset().union(*(held[member] for member in group.members))
        unknown = sorted(set(names) - set(held))
        if unknown:
            raise DecodeError(f"policy: defines no witness or group {printable(unknown[0][:80])!r}")
        return frozenset().union(*(held[name] for name in names))

    def since(self, times: Mapping[str, int]) -> int | None:
        """Return the largest t such that the witnesses with a time of t or later make the quorum.

        Args:
            times: policy name -> POSIX seconds; 0 is absent.

        Returns:
            None where there is no such t, also where the quorum is ``none``.
        """
        for moment in sorted({time for time in times.values() if time > 0}, reverse=True):
            if self.satisfied({name for name, time in times.items() if time >= moment}):
                return moment if self.quorum != "none" else None
        return None


def witnessed_by(policy: WitnessPolicy, cosigned: Collection[str], external: Iterable[str] = ()) -> str:
    """Say who saw a checkpoint, in the one phrase that every output uses.

    Args:
        cosigned: policy names of the witnesses whose lines were verified.
        external: names of witnesses, or of groups, that somebody else than the log's owner runs. Nothing proves that
            they do: it is the owner's word.

    Raises:
        DecodeError: *external* has a name that the policy does not define.
    """
    outside = policy.within(tuple(external))
    names = _as_one(policy, cosigned)
    seen = dict.fromkeys(names[witness.name] for witness in policy.witnesses if witness.name in cosigned)
    others = dict.fromkeys(
        names[witness.name] for witness in policy.witnesses if witness.name in cosigned and witness.name in outside
    )
    if not seen:
        return "not witnessed"
    if not others:
        return "witnessed: internal only"
    return printable(f"witnessed: {', '.join(seen)} (external: {', '.join(others)})")


def _as_one(policy: WitnessPolicy, cosigned: Collection[str]) -> Mapping[str, str]:
    """Return policy name -> what to call it: several keys of one witness are called as their group, where all cosigned."""
    signers = {witness.name: witness.key.name for witness in policy.witnesses}
    names = {name: name for name in signers}
    for group in policy.groups:
        one = len({signers.get(member) for member in group.members}) == 1 and set(group.members) <= set(signers)
        if one and all(member in cosigned for member in group.members):
            names |= dict.fromkeys(group.members, group.name)
    return names


@dataclass(slots=True)
class _Reader:
    """What was read so far."""

    logs: list[PolicyLog] = field(default_factory=list)
    witnesses: list[PolicyWitness] = field(default_factory=list)
    groups: list[PolicyGroup] = field(default_factory=list)
    defined: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    quorum: str | None = None

    def read(self, number: int, words: list[str]) -> None:
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                self._log(number, vkey, "".join(words[2:]))
            case ["witness", name, vkey] | ["witness", name, vkey, _]:
                self._witness(number, name, vkey, "".join(words[3:]))
            case ["group", name, threshold, *members] if members:
                self._group(number, name, threshold, members)
            case ["quorum", name]:
                if self.quorum is not None or (name != "none" and name not in self.defined):
                    raise _error(number, "a second quorum, or one that no line before it defines")
                self.quorum = name
            case _:
                raise _error(number, "neither log, witness, group nor quorum with the words each needs")
        if len(self.logs) + len(self.defined) > MAX_ITEMS:
            raise _error(number, f"more than {MAX_ITEMS} logs, witnesses and groups")

    def finish(self) -> WitnessPolicy:
        if self.quorum is None:
            raise DecodeError("policy: no quorum line")
        return WitnessPolicy(
            logs=tuple(self.logs), witnesses=tuple(self.witnesses), groups=tuple(self.groups), quorum=self.quorum
        )

    def _log(self, number: int, vkey: str, url: str) -> None:
        key = _key(number, vkey, _LOG_KINDS)
        if any(log.key.public == key.public for log in self.logs):
            raise _error(number, "a log key stands twice")
        self.logs.append(PolicyLog(key=key, url=url))

    def _witness(self, number: int, name: str, vkey: str, url: str) -> None:
        key = _key(number, vkey, _WITNESS_KINDS)
        if any(witness.key.public == key.public for witness in self.witnesses):
            raise _error(number, "a witness key stands twice")
        self._define(number, name)
        self.witnesses.append(PolicyWitness(name=name, key=key, url=url))

    def _group(self, number: int, name: str, threshold: str, members: list[str]) -> None:
        for member in members:
            if member not in self.defined or member in self.used:
                raise _error(number, f"member {member[:80]!r} is not defined before, or is a member already")
            self.used.add(member)
        counts = {"any": "1", "all": str(len(members))}
        threshold = counts.get(threshold, threshold)
        if not _THRESHOLD.fullmatch(threshold) or int(threshold) > len(members):
            raise _error(number, "a threshold is any, all, or 1 to the number of members")
        self._define(number, name)
        self.groups.append(PolicyGroup(name=name, k=int(threshold), members=tuple(members)))

    def _define(self, number: int, name: str) -> None:
        if name == "none" or name in self.defined:
            raise _error(number, f"the name {name[:80]!r} is taken")
        self.defined.add(name)


def _key(number: int, vkey: str, kinds: tuple[LineKind, ...]) -> VerifierKey:
    key = VerifierKey.decode(vkey)
    if key.kind not in kinds:
        raise _error(number, "a key whose signature type does not fit the line")
    return key


def _error(number: int, message: str) -> DecodeError:
    return DecodeError(f"policy, line {number}: {message}")
