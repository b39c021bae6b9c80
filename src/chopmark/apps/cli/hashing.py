# SPDX-License-Identifier: Apache-2.0
"""``hash``: the manifest of a file or folder of any size."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, columns
from chopmark.errors import UsageError

if TYPE_CHECKING:
    from chopmark.artifacts import HashState

_PATH = click.Path(path_type=Path)


@click.command("hash")
@click.argument("path", type=_PATH)
@click.option("--manifest", type=_PATH, help="Also write the manifest to this file.")
@click.option("--leaves", type=_PATH, help="Also write each file's leaves, to check parts of it, into this folder.")
@click.option("--state", type=_PATH, help="Remember here what is done: the same call goes on where it was interrupted.")
@click.option(
    "--changed-only",
    is_flag=True,
    help="Take what a finished run left in --state for files whose size, times and inode are the same.",
)
@click.option("--progress", is_flag=True, help="Say how far it is, also where stderr is no terminal.")
@answers
def hash_(
    path: Path, manifest: Path | None, leaves: Path | None, state: Path | None, *, changed_only: bool, progress: bool
) -> Answer:
    """Print the digest of the file or folder PATH: the package digest, and each file's.

    \b
    Example:
        chopmark hash packages/digits-1/package
        chopmark hash llm --state llm.state --leaves llm.leaves --manifest llm.json
    """
    from chopmark.apps.cli.progress import progress_over
    from chopmark.artifacts import manifest_of, write_file

    if changed_only and state is None:
        raise UsageError("--changed-only needs --state FILE", hint="name the state file of the last run")
    for beside in (manifest, leaves, state):
        _check_beside(path, beside)
    with ExitStack() as stack:
        show = stack.enter_context(progress_over(path, asked=progress))
        remembered = _state(stack, path, state, changed_only=changed_only)
        found = manifest_of(path, on_progress=show, state=remembered, leaves=leaves)
        if remembered is not None:
            remembered.finish()
    if manifest is not None:
        write_file(manifest, found.encode())
    data = {
        "ok": True,
        "digest": str(found.digest),
        "files": [
            {
                "name": file.name,
                "length": file.length,
                "sha256": file.sha256.hex,
                "fsverity": {str(size): digest.hex for size, digest in file.fsverity.items()},
            }
            for file in found.files
        ],
        **({} if remembered is None else {"taken_from_state": remembered.taken}),
    }
    rows = [(f.name, f"{f.length:,} B", str(f.sha256)) for f in found.files]
    written = [f"  manifest in {manifest}"] * bool(manifest) + [f"  leaves in {leaves}"] * bool(leaves)
    if remembered is not None and remembered.taken:
        written.append(f"  {remembered.taken:,} of {len(found.files):,} files taken from {state}, not read again")
    return data, [f"{found.digest}  {path}", *columns(rows, indent="  "), *written]


def check_folder_of(file: Path) -> None:
    """Check that the folder of a *file* to write exists: a mistyped path makes no folders.

    Raises:
        UsageError: it does not.
    """
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent}", hint=f"make it first: mkdir -p {file.parent}")


def _check_beside(path: Path, written: Path | None) -> None:
    """Check that what is written about *path* is no part of it, which would change its digest, and that its folder is there."""
    if written is None:
        return
    check_folder_of(written)
    if path.is_dir() and written.resolve().is_relative_to(path.resolve()):
        raise UsageError(f"{written}: lies in what is hashed", hint=f"name a place outside {path}")


def _state(stack: ExitStack, path: Path, file: Path | None, *, changed_only: bool) -> HashState | None:
    if file is None:
        return None
    import time

    from chopmark.artifacts import HashState

    return stack.enter_context(HashState(file, of=path, changed_only=changed_only, now_ns=time.time_ns))
