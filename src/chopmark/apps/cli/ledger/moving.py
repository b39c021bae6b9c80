# SPDX-License-Identifier: Apache-2.0
"""What the commands of a log's life do with folders, step by step, so that being killed anywhere is mended by running again.

A log of one origin must be live in one place only; two would sign two histories. Hence the order of each:

* :func:`migrate`: (1) empty stores are made in a folder of another name; (2) the old log is frozen for good, towards this
  one copy; (3) the copy is filled; (4) keys are put there when its root is the old one's; (5) the folder gets its name.
* :func:`fetch`: a mirror has no keys and cannot append; keys come last, and only where they are given.
* :func:`succeed`: the successor has another origin; its folder appears with entry 0 in it, or not at all.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chopmark.apps.cli.ledger.wiring import LogSite, create_log, create_mirror, fill_mirror, load_keys, open_log_files
from chopmark.artifacts import read_file, sync_folder, write_file
from chopmark.errors import UsageError, VerificationError
from chopmark.ledger import VerifierKey, WitnessPolicy, log_key
from chopmark.ledger.agreement import frozen_error
from chopmark.ledger.freeze import seal_of, seals
from chopmark.ledger.fsck_files import newest_witnessed, verify_log
from chopmark.ledger.migrate import copy_log, mirror
from chopmark.ledger.place import LOG_CONFIG, LogPlace, StoreSettings, read_log_place
from chopmark.ledger.static import StaticLog, newest_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chopmark.ledger.helpers import Progress

_MOVED: Final = "moved-here"
_SUCCESSOR: Final = "successor"
_MAX_SUCCESSOR_BYTES: Final = 65_536
_SUCCESSOR_KEYS: Final = "successor.keys"
"""In the copy: the words that the old head says of where the log went."""
_MAX_MOVED_BYTES: Final = 8192
_MAX_KEY_BYTES: Final = 16_384


def migrate(site: LogSite, folder: Path, store: StoreSettings, *, progress: Progress | None = None) -> LogPlace:
    """Move a log with its keys into *folder*; again where it was killed, or is done already.

    Raises:
        UsageError: the log moved elsewhere, or *folder* holds something else.
        Refused, VerificationError: the log is damaged; nothing was moved.
    """
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        if not _moved_there(site, folder):
            raise UsageError(f"{folder}: exists and is not empty", hint="name a folder that does not exist yet")
        return read_log_place(folder)
    if site.is_mirror:
        raise UsageError("the log's keys are not here", code="key-missing", hint="copy a mirror with: ledger import")
    building = folder.with_name(f".{folder.name}.moving")
    head = site.stores[1].head()
    if head.moved_to and head.moved_to != _word(building):  # found before anything is made for it
        raise frozen_error(head)
    word = _prepare(site, building, folder, store)
    head = site.stores[1].head()
    if not head.frozen or head.moved_to:  # one that has ended may be copied: no copy goes on
        site.ledger.freeze(moved_to=word)
    if not (building / "keys").exists():  # they come when the copy is complete, and it may be live from then on
        _fill(site, building, progress)
        _copy_keys(site.place.keys, building / "keys")
    building.replace(folder)
    sync_folder(folder.parent)
    return read_log_place(folder)


def fetch(
    where: str,
    folder: Path,
    *,
    vkeys: Sequence[str],
    policy: WitnessPolicy | None,
    keys: Path | None,
    external: Sequence[str] = (),
    progress: Progress | None = None,
) -> LogSite:
    """Fetch the log at *where* into *folder*, or what is new of it; every byte is checked.

    Args:
        keys: the log's private keys: it is continued here, and must have ended there.
        external: witnesses or groups of *policy* that somebody else runs; for the first time, as *policy*.

    Raises:
        UsageError: *folder* holds something else, or is no mirror any more; *keys* are others.
        Refused, VerificationError: the log is altered, or not the one fetched before.
        UndecidedError: it cannot be read now; run again.
    """
    folder = folder.resolve()
    if not (folder / LOG_CONFIG).is_file():
        if not vkeys:
            raise UsageError("whose log it is says its key", hint="--key VKEY, for each that must have signed")
        _one_origin(vkeys)
        none = WitnessPolicy(logs=(), witnesses=(), groups=(), quorum="none")
        create_mirror(folder, require=vkeys, policy=policy or none, external=external, once=False)
    site = LogSite(read_log_place(folder))
    place = site.place
    if vkeys and set(vkeys) != set(place.require):
        raise UsageError(f"{folder}: is a copy of a log with other keys", hint="name another folder")
    if not site.is_mirror and keys is None:
        raise UsageError(f"{place.origin} is continued in {folder}; it is no mirror any more")
    signers = [] if keys is None else load_keys(keys)
    if signers and {log_key(place.origin, each.public).encode() for each in signers} != set(place.require):
        raise UsageError(f"these are not the keys of {place.origin}", hint="all of them, and no other")
    _fetch(where, site, progress)
    if keys is not None:
        _copy_keys(keys, place.keys)
    return site


def succeed(site: LogSite, folder: Path, *, origin: str) -> LogPlace:
    """Make the log that follows a frozen one in *folder*; the same again where it is there.

    Raises:
        UsageError: the log is not frozen, *origin* is its own, or *folder* holds something else.
        Refused: its last head is not signed, not witnessed as its policy asks, or altered.
    """
    folder, place = folder.resolve(), site.place
    store, heads = site.stores
    entry = seal_of(store, heads, require=place.require, policy=place.policy)
    if origin == place.origin:
        raise UsageError("a successor has a name of its own", hint="two logs of one origin are a fork")
    _claim(place, origin)
    if not (folder / LOG_CONFIG).is_file():
        if (place.folder / _SUCCESSOR_KEYS).exists():
            raise UsageError(
                f"{place.origin} is followed by {origin} already, and that is not in {folder}",
                hint="name its folder: two successors are two histories",
            )
        once = store.state().once
        made = create_log(folder, origin=origin, once=once, policy=place.policy, external=place.external, first=entry)
        write_file(place.folder / _SUCCESSOR_KEYS, "".join(f"{vkey}\n" for vkey in made.require).encode())
        return made
    successor = LogSite(read_log_place(folder))
    if successor.place.origin != origin or not _begins_with_seal(successor, site):
        raise UsageError(f"{folder}: holds a log that is not this successor", hint="name another folder")
    keys = "".join(f"{vkey}\n" for vkey in successor.place.require).encode()
    if not (place.folder / _SUCCESSOR_KEYS).exists():  # killed before they were written down
        write_file(place.folder / _SUCCESSOR_KEYS, keys)
    if read_file(place.folder / _SUCCESSOR_KEYS, max_bytes=_MAX_SUCCESSOR_BYTES) != keys:
        raise UsageError(
            f"{place.origin} is followed by another log of this name", hint="two successors are two histories"
        )
    return successor.place


def _claim(place: LogPlace, origin: str) -> None:
    """Write down which log follows, once: two successors are two histories."""
    path = place.folder / _SUCCESSOR
    if not path.exists():
        write_file(path, f"{origin}\n".encode())
    known = read_file(path, max_bytes=_MAX_SUCCESSOR_BYTES).decode("utf-8", "replace").strip()
    if known != origin:
        raise UsageError(f"{place.origin} is followed by {known} already", hint="two successors are two histories")


def _begins_with_seal(successor: LogSite, site: LogSite) -> bool:
    try:
        return seals(successor.stores[0].entries(0, 1)[0], site.stores[1].head())
    except VerificationError:
        return False


def _moved_there(site: LogSite, folder: Path) -> bool:
    """Tell whether *folder* is what an earlier run made of this log."""
    head, word = site.stores[1].head(), _word(folder)
    if not (head.frozen and word):
        return False
    if head.moved_to:
        return word == head.moved_to
    copy = LogSite(read_log_place(folder)).stores[1].head()
    return (copy.origin, copy.size, copy.root) == (head.origin, head.size, head.root)


def _prepare(site: LogSite, building: Path, folder: Path, store: StoreSettings) -> str:
    """Make the empty copy, before anything is frozen for it; return the words for it in the old head."""
    place = site.place
    building.mkdir(mode=0o700, parents=True, exist_ok=True)
    word = _word(building)
    if not word:
        word = f"{folder} ({secrets.token_hex(8)})"
        write_file(building / _MOVED, word.encode())
        sync_folder(building.parent)
    if not (building / LOG_CONFIG).is_file():  # it comes last: what else is there was not finished
        for path in building.iterdir():
            if path.name != _MOVED:
                path.unlink()
        once = site.stores[0].state().once
        fill_mirror(
            building,
            require=place.require,
            policy=place.policy,
            external=place.external,
            store=store,
            once=once,
            retention=place.retention,
            maker=word,
        )
    return word


def _fill(site: LogSite, building: Path, progress: Progress | None) -> None:
    copy = LogSite(read_log_place(building))
    try:
        copy_log(site.stores, copy.stores, progress=progress)
    finally:
        copy.close()


def _fetch(where: str, site: LogSite, progress: Progress | None) -> None:
    place, files = site.place, open_log_files(where)
    note = newest_note(files)
    seen = verify_log(note, origin=place.origin, require=place.require, policy=place.policy)
    witnessed = None
    if place.policy.quorum != "none":
        witnessed, _ = newest_witnessed(files, origin=place.origin, require=place.require, policy=place.policy)
    mirror(StaticLog(files, seen.checkpoint), site.stores, note=note, witnessed=witnessed, progress=progress)


def _one_origin(vkeys: Sequence[str]) -> None:
    if len({VerifierKey.decode(vkey).name for vkey in vkeys}) != 1:
        raise UsageError("the keys are of several logs", hint="one log at a time")


def _word(folder: Path) -> str:
    file = folder / _MOVED
    return read_file(file, max_bytes=_MAX_MOVED_BYTES).decode("utf-8", "replace") if file.is_file() else ""


def _copy_keys(source: Path, target: Path) -> None:
    """Copy private keys, all of them or none."""
    if target.exists():
        return
    building = target.with_name(f".{target.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o700)
    for path in sorted(source.glob("*.pem")):
        write_file(building / path.name, read_file(path, max_bytes=_MAX_KEY_BYTES), mode=0o600)
    building.replace(target)
    sync_folder(target.parent)
