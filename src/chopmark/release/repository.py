# SPDX-License-Identifier: Apache-2.0
"""What a commit of the release repository holds: models, channels, policies, envelopes; read strictly, believed late.

Envelopes are only ever added. The file name of each is its release hash, so none can stand for another.
"""

from __future__ import annotations

from chopmark.artifacts import Digest
from chopmark.channel import Release, approved, decode_release
from chopmark.documents import MAX_DOCUMENT_BYTES
from chopmark.errors import DecodeError, Refused, UsageError, VerificationError
from chopmark.policy import Policy, decode_policy
from chopmark.release.model import ApprovedRelease, Channel, ModelRelease
from chopmark.release.ports import GitHost
from chopmark.release.wire import decode_channel, decode_model_release
from chopmark.statements import Envelope, decode_envelope
from chopmark.trust import TrustPolicy

MODELS = "models"
CHANNELS = "channels"
ENVELOPES = "envelopes"
MAX_ENVELOPE_FILE_BYTES = 1024 * 1024


def model_path(model: str) -> str:
    """Return where the ModelRelease file of *model* stands."""
    return f"{MODELS}/{model}.yaml"


def envelope_path(release: Digest) -> str:
    """Return where the envelope of *release* stands."""
    return f"{ENVELOPES}/{release.hex}.json"


def head(host: GitHost, branch: str) -> str:
    """Return the commit of *branch*.

    Raises:
        UsageError: there is no such branch.
    """
    commit = host.head(branch)
    if commit is None:
        raise UsageError(
            f"there is no branch {branch}",
            code="branch-missing",
            hint="`chopmark release propose` makes one; `git branch`, in the release repository, lists them",
        )
    return commit


def read_model(host: GitHost, commit: str, model: str, *, workspace: str) -> ModelRelease | None:
    """Return the ModelRelease of *model* at *commit*.

    Raises:
        DecodeError: the file cannot be read, or names another model.
    """
    data = host.read(commit, model_path(model), max_bytes=MAX_DOCUMENT_BYTES)
    if data is None:
        return None
    found = decode_model_release(data, workspace=workspace)
    if found.release.model != model:
        raise DecodeError(f"{model_path(model)}: is about {found.release.model}")
    return found


def read_models(host: GitHost, commit: str, *, workspace: str) -> dict[str, ModelRelease]:
    """Return every ModelRelease at *commit*, by model.

    Raises:
        DecodeError: a file that is none, or names another model.
    """
    found = {}
    for path, data in host.read_folder(commit, MODELS, max_bytes=MAX_DOCUMENT_BYTES).items():
        model = decode_model_release(data, workspace=workspace)
        if path != model_path(model.release.model):
            raise DecodeError(f"{path}: is about {model.release.model}")
        found[model.release.model] = model
    return found


def read_channels(host: GitHost, commit: str) -> tuple[Channel, ...]:
    """Return every Channel file at *commit*.

    Raises:
        DecodeError: one cannot be read, or its name is not that of the file.
    """
    found = []
    for path, data in host.read_folder(commit, CHANNELS, max_bytes=MAX_DOCUMENT_BYTES).items():
        channel = decode_channel(data)
        if path != f"{CHANNELS}/{channel.name}.yaml":
            raise DecodeError(f"{path}: is about {channel.name}")
        found.append(channel)
    return tuple(found)


def read_policy(host: GitHost, commit: str, name: str) -> Policy:
    """Return the ReleasePolicy *name* at *commit*.

    Raises:
        UsageError: there is none.
        DecodeError: it cannot be read, or has another name.
    """
    path = f"policies/{name}.yaml"
    data = host.read(commit, path, max_bytes=MAX_DOCUMENT_BYTES)
    if data is None:
        raise UsageError(f"{path}: is not in the repository", code="policy-missing", hint="commit it to main first")
    policy = decode_policy(data)
    if policy.name != name:
        raise DecodeError(f"{path}: is named {policy.name}")
    return policy


def read_envelope(host: GitHost, commit: str, release: Digest) -> Envelope | None:
    """Return the envelope of *release* at *commit*, its signatures not counted.

    Raises:
        DecodeError: it cannot be read, or is another release's.
    """
    data = host.read(commit, envelope_path(release), max_bytes=MAX_ENVELOPE_FILE_BYTES)
    if data is None:
        return None
    envelope = decode_envelope(data)
    if envelope.digest != release:
        raise DecodeError(f"{envelope_path(release)}: is the envelope of {envelope.digest}")
    return envelope


def read_approved(host: GitHost, commit: str, release: Digest, trust: TrustPolicy) -> ApprovedRelease:
    """Return *release* with its envelope at *commit*, approved for every channel it names.

    Raises:
        Refused: ``release-unapproved``, ``release-misdirected``.
        VerificationError: there is no such envelope.
    """
    data = host.read(commit, envelope_path(release), max_bytes=MAX_ENVELOPE_FILE_BYTES)
    if data is None:
        raise VerificationError(
            f"the envelope of {release} is not in the repository",
            code="envelope-missing",
            hint="envelopes are never removed: restore it from an earlier commit",
        )
    found = check_approved(data, trust)
    if found.digest != release:
        raise DecodeError(f"{envelope_path(release)}: is the envelope of {found.digest}")
    return ApprovedRelease(release=found, envelope=data)


def check_approved(envelope: bytes, trust: TrustPolicy) -> Release:
    """Return the release in *envelope* if it is approved for every channel it names, in this workspace.

    Raises:
        Refused: ``release-unapproved``, ``release-misdirected``.
    """
    release = decode_release(decode_envelope(envelope).payload)
    if not release.channels:
        raise DecodeError("release: names no channel")
    for channel in release.channels:
        approved(envelope, trust, channel=channel)
    if release.workspace != trust.workspace:
        raise Refused("release-misdirected", f"the release is for workspace {release.workspace}, not {trust.workspace}")
    return release


def approved_releases(host: GitHost, commit: str, trust: TrustPolicy) -> dict[Digest, Release]:
    """Return every approved release whose envelope stands at *commit*; others are passed over."""
    found = {}
    for data in host.read_folder(commit, ENVELOPES, max_bytes=MAX_ENVELOPE_FILE_BYTES).values():
        try:
            release = check_approved(data, trust)
        except VerificationError:
            continue
        found[release.digest] = release
    return found
