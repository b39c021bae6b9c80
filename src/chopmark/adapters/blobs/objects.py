# SPDX-License-Identifier: Apache-2.0
"""Object stores for a log's files: S3 and Google's through obstore, memory for tests, a folder of our own.

    file:///srv/log          a folder: see FolderObjects, which synchronises each file and its folder with the disk
    s3://bucket/prefix       durable as the service says, once it has answered; "create" is If-None-Match: *
    gs://bucket/prefix       likewise, by generation
    memory:///               gone with the process

obstore's own folder store renames without fsync, so that after a power failure an object could be there and empty: it is
not used. Credentials come from the environment (``AWS_ACCESS_KEY_ID`` …, instance roles), never from options, which stand
in files and process lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import GCSStore, MemoryStore, S3Store

from chopmark.adapters.blobs.logfiles import FolderObjects
from chopmark.errors import DecodeError, UsageError
from chopmark.ledger.ports import ObjectStore

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

OPTIONS: Final = {
    "s3": ("endpoint", "region", "virtual_hosted_style_request", "sse_kms_key_id", "server_side_encryption"),
    "gs": ("endpoint",),
    "file": (),
    "memory": (),
}
"""What may be said of each kind of store. Nothing that is a secret, and nothing that leaves a check out."""
_RETRY: Final[RetryConfig] = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}


def open_objects(url: str, options: Mapping[str, str] | None = None) -> ObjectStore:
    """Return the object store at *url*; nothing is sent yet.

    Raises:
        UsageError: an address or an option that is not known.
    """
    options = dict(options or {})
    parts = urlsplit(url)
    known = OPTIONS.get(parts.scheme)
    prefix = unquote(parts.path).strip("/")
    wrong = [name for name in options if known is None or name not in known]
    if (
        known is None
        or parts.query
        or parts.fragment
        or parts.username
        or any(p in (".", "..") for p in prefix.split("/"))
    ):
        raise UsageError(
            "not the address of an object store", hint="file:///folder, s3://bucket/prefix, gs://bucket/prefix"
        )
    if wrong:
        raise UsageError(
            f"{parts.scheme}: no option {wrong[0]}",
            hint=f"known: {', '.join(known) or 'none'}; credentials come from the environment",
        )
    if parts.scheme == "file":
        if parts.netloc or not prefix:
            raise UsageError("the address of a folder begins with file:/// and names one")
        return FolderObjects(Path(unquote(parts.path)))
    if parts.scheme == "memory":
        return StoredObjects(MemoryStore())
    if not parts.netloc:
        raise UsageError("the address names no bucket")
    try:
        return StoredObjects(_cloud(parts.scheme, parts.netloc, prefix, options))
    except (BaseError, ValueError, TypeError) as error:
        raise UsageError(f"{parts.scheme}://{parts.netloc}: cannot be used ({type(error).__name__})") from error


def _cloud(scheme: str, bucket: str, prefix: str, options: dict[str, str]) -> S3Store | GCSStore:
    # Without TLS only where the address of the endpoint says so in so many letters.
    client: ClientConfig = {
        "allow_http": options.get("endpoint", "").startswith("http://"),
        "connect_timeout": timedelta(seconds=10),
        "timeout": timedelta(seconds=60),
    }
    if scheme == "gs":
        google: GCSConfig = {"base_url": options["endpoint"]} if "endpoint" in options else {}
        return GCSStore(bucket, prefix=prefix or None, config=google, client_options=client, retry_config=_RETRY)
    amazon: S3Config = {"conditional_put": "etag", **options}  # type: ignore[typeddict-item]
    return S3Store(bucket, prefix=prefix or None, config=amazon, client_options=client, retry_config=_RETRY)


class StoredObjects(ObjectStore):
    """See the module."""

    def __init__(self, store: S3Store | GCSStore | MemoryStore) -> None:
        self._store = store

    def _find(self, path: str, max_bytes: int) -> bytes | None:
        try:
            found = obstore.get(self._store, path)
            if found.meta["size"] > max_bytes:
                raise DecodeError(f"{path}: longer than the {max_bytes:,} bytes allowed")
            return bytes(found.bytes())
        except FileNotFoundError:
            return None

    def _create(self, path: str, data: bytes) -> bool:
        try:
            obstore.put(self._store, path, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def _replace(self, path: str, data: bytes) -> None:
        obstore.put(self._store, path, data, mode="overwrite", use_multipart=False)

    def _remove(self, path: str) -> None:
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return

    def _names(self, prefix: str) -> Iterator[str]:
        # obstore takes whole folders; the rest of the prefix is ours to compare.
        folder = prefix.rpartition("/")[0]
        for page in obstore.list(self._store, folder or None, chunk_size=1000):
            yield from (each["path"] for each in page if each["path"].startswith(prefix))
