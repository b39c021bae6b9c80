# SPDX-License-Identifier: Apache-2.0
"""The channel: which approved release goes to whom, until when, and what is revoked.

This face is what a device needs: the objects, :mod:`chopmark.channel.walk` for steps 5 to 9 of the procedure, whose checks
are :mod:`chopmark.channel.follow`, and :mod:`chopmark.channel.verify` for steps 11 to 13. Publishing
(``channel.publish``) and the security host (``channel.status``) are server halves that a device never imports.
"""

from chopmark.channel.follow import Logged, LogHead, SnapshotMeta, TimestampMeta
from chopmark.channel.model import (
    BUCKETS,
    RESERVED_CHANNELS,
    Assignment,
    ChannelFile,
    Release,
    RuntimeNeed,
    Status,
    StatusEntry,
    bucket,
    envelope_target,
    fetch_path,
    manifest_target,
    package_target,
)
from chopmark.channel.ports import Fetcher, MissingError
from chopmark.channel.verify import Top, approved, current, directed, in_range
from chopmark.channel.wire import (
    channel_extension,
    decode_assignments,
    decode_entries,
    decode_release,
    decode_status,
    entries_json,
    release_statement,
    status_extension,
)

__all__ = [
    "BUCKETS",
    "RESERVED_CHANNELS",
    "Assignment",
    "ChannelFile",
    "Fetcher",
    "LogHead",
    "Logged",
    "MissingError",
    "Release",
    "RuntimeNeed",
    "SnapshotMeta",
    "Status",
    "StatusEntry",
    "TimestampMeta",
    "Top",
    "approved",
    "bucket",
    "channel_extension",
    "current",
    "decode_assignments",
    "decode_entries",
    "decode_release",
    "decode_status",
    "directed",
    "entries_json",
    "envelope_target",
    "fetch_path",
    "in_range",
    "manifest_target",
    "package_target",
    "release_statement",
    "status_extension",
]
