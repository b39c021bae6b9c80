# SPDX-License-Identifier: Apache-2.0
"""How ``git`` is run here, and which settings of a repository are let stand.

No signature covers a repository's own configuration, and dozens of its keys name programs or change what is read. So
what is known to be harmless is listed, and the rest is refused by name; what a list could miss is pinned besides.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from chopmark.artifacts import read_file
from chopmark.errors import UsageError

SETTINGS: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.commitGraph": "false",  # it says what a commit's parents are, and nothing says it is right
    "core.multiPackIndex": "false",
    "core.quotePath": "false",
    "color.ui": "false",
    "log.showSignature": "false",
    "log.mailmap": "false",
    "i18n.logOutputEncoding": "UTF-8",
    "gpg.format": "ssh",
    "gpg.ssh.program": "ssh-keygen",
    "gpg.ssh.revocationFile": "/dev/null",  # who may sign is said by trust.json alone
    "gpg.program": "false",  # a good OpenPGP or X.509 signature is nobody's here
    "gpg.x509.program": "false",
    "merge.renames": "false",
    "protocol.allow": "never",
    **{f"protocol.{name}.allow": "never" for name in ("file", "ext", "fd", "ssh", "http", "https", "git")},
}

_MAX_BYTES: Final = 256 * 1024
_HARMLESS: Final = re.compile(
    r"""
      core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks
            |autocrlf|eol|hidedotfiles|longpaths|sharedrepository)
    | extensions\.objectformat
    | (user|author|committer)\.(name|email|signingkey|useconfigonly)
    | remote\..+\.(url|pushurl|fetch|push|tagopt|prune) | remote\.pushdefault
    | branch\..+
    | (commit|tag)\.gpgsign | gpg\.format | gpg\.ssh\.allowedsignersfile
    | init\.defaultbranch | pull\.(rebase|ff) | push\.(default|autosetupremote|followtags) | fetch\.prune
    | receive\.(denycurrentbranch|denydeletes|denynonfastforwards)
    | http\..+\.extraheader
    | gc\.auto | advice\..+ | color\..+
    """,
    re.VERBOSE | re.DOTALL,
)


def environment(folder: Path) -> dict[str, str]:
    """Return the whole environment of a ``git`` that works on *folder*."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",  # above any protocol.<name>.allow, also of a name that nobody thought of
        "GIT_GRAFT_FILE": os.devnull,
        "GIT_SHALLOW_FILE": "",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "SSH_ASKPASS_REQUIRE": "never",
    }


def refuse_settings(folder: Path, keys: Iterable[str], attributes: bytes) -> None:
    """Accept a repository whose own settings cannot run a program or change what is read.

    Args:
        keys: of its own configuration, as ``git config --name-only`` writes them.
        attributes: the content of its ``info/attributes``, which stand above the signed ``.gitattributes``.

    Raises:
        UsageError: ``git-setting``; names the key.
    """
    for key in keys:
        if not _HARMLESS.fullmatch(key):
            command = f"git -C {shlex.quote(str(folder))} config --local --unset-all {shlex.quote(key)}"
            raise UsageError(
                f"{folder}: its configuration sets {key}, which is not known to be harmless",
                code="git-setting",
                hint=f"{command}; look for who set it",
            )
    if any(line.strip() and not line.startswith(b"#") for line in attributes.splitlines()):
        raise UsageError(
            f"{folder}: its .git/info/attributes change what files mean, and nobody signed them",
            code="git-setting",
            hint="remove that file; commit a .gitattributes if it is wanted",
        )


def content_of(path: Path) -> bytes:
    """Return the content of a file of the repository's own; nothing where there is none."""
    return read_file(path, max_bytes=_MAX_BYTES) if path.exists() or path.is_symlink() else b""
