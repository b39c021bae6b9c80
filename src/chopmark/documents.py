# SPDX-License-Identifier: Apache-2.0
"""The one YAML of Chopmark: what people edit, read so that it means one thing to every reader.

Accepted: one document of mappings, lists, strings, whole numbers, ``true``, ``false`` and ``null``. Refused: duplicate keys,
anchors, aliases, tags, directives, a second document, too deep or too long a file, and every plain word that YAML
versions read differently (``no``, ``1.10``, ``0x1f``, ``12:30``): such a value is written in quotes.

Reading stops at the parser's events; no YAML constructor ever runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

from chopmark import canonical
from chopmark.errors import DecodeError

if TYPE_CHECKING:
    import yaml

MAX_DOCUMENT_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 12

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_WORDS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None}
_AMBIGUOUS_WORDS: Final = frozenset({"~", "", "y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_NUMBER_LIKE: Final = re.compile(r"[-+.]?[0-9][0-9_.,:xXoObBeE+a-fA-F-]*|[-+]?\.(inf|nan)", re.IGNORECASE)
_PLAIN: Final = re.compile(r"(sha256:)?[A-Za-z][A-Za-z0-9._/-]*|sha256:[0-9a-f]{64}")

T = TypeVar("T")


class _Mark(Enum):
    """Where a list or a mapping begins, and where one ends."""

    LIST = "list"
    MAPPING = "mapping"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scalar:
    text: str
    quoted: bool


def read_document(data: bytes, *, what: str) -> dict[str, object]:
    """Read one YAML document that is a mapping.

    Raises:
        DecodeError: anything that the module refuses.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DecodeError(f"{what}: {len(data):,} bytes, more than the {MAX_DOCUMENT_BYTES:,} allowed")
    try:
        events = _events(data.decode("utf-8"))
        value = _value(next(events), events, depth=0)
        trailing = next(events, None)
    except DecodeError as error:
        raise DecodeError(f"{what}: {error.message}", hint=error.hint) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise DecodeError(f"{what}: not YAML") from error
    if not isinstance(value, dict) or trailing is not None:
        raise DecodeError(f"{what}: not one document with members")
    return value


def read_document_as(data: bytes, kind: type[T], *, what: str) -> T:
    """Read one YAML document into *kind*, a msgspec struct declared with ``forbid_unknown_fields=True``.

    Raises:
        DecodeError: as :func:`read_document`, or it does not fit *kind*.
    """
    return canonical.convert(read_document(data, what=what), kind, what=what)


def write_document(value: Mapping[str, object], *, comment: str = "") -> bytes:
    """Return YAML that :func:`read_document` reads back as *value*, members in their order.

    Args:
        comment: one line for the top of the file.
    """
    import yaml  # noqa: PLC0415 - loaded by those who write YAML

    text = yaml.dump(
        value, Dumper=_dumper(), sort_keys=False, default_flow_style=False, allow_unicode=False, width=1_000_000
    )
    return (f"# {comment}\n{text}" if comment else text).encode()


def _events(text: str) -> Iterator[_Scalar | _Mark]:
    """Yield the content of the one document in *text*."""
    import yaml  # noqa: PLC0415 - loaded by those who read YAML

    documents = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1 or event.version or event.tags:
                    raise DecodeError("a second document, or a directive")
            found = _event(event)
            if found is not None:
                yield found
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise DecodeError(f"not YAML{where}") from error
    if not documents:
        raise DecodeError("an empty file")


def _event(event: yaml.Event) -> _Scalar | _Mark | None:
    """Return what is content in *event*, and nothing for what only frames it."""
    import yaml  # noqa: PLC0415 - loaded already

    match event:
        case yaml.AliasEvent():
            raise DecodeError("an alias", hint="write the value where it is used")
        case yaml.NodeEvent() if event.anchor is not None or getattr(event, "tag", None) is not None:
            raise DecodeError("an anchor or a tag", hint="write plain values")
        case yaml.ScalarEvent():
            return _Scalar(text=event.value, quoted=event.style is not None)
        case yaml.SequenceStartEvent():
            return _Mark.LIST
        case yaml.MappingStartEvent():
            return _Mark.MAPPING
        case yaml.CollectionEndEvent():
            return _Mark.END
    return None


def _value(event: _Scalar | _Mark, events: Iterator[_Scalar | _Mark], *, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise DecodeError(f"more than {MAX_DEPTH} levels")
    if isinstance(event, _Scalar):
        return event.text if event.quoted else _plain(event.text)
    if event is _Mark.LIST:
        return list(_sequence(events, depth=depth + 1))
    return _mapping(events, depth=depth + 1)


def _sequence(events: Iterator[_Scalar | _Mark], *, depth: int) -> Iterator[object]:
    while (event := next(events)) is not _Mark.END:
        yield _value(event, events, depth=depth)


def _mapping(events: Iterator[_Scalar | _Mark], *, depth: int) -> dict[str, object]:
    members: dict[str, object] = {}
    while (event := next(events)) is not _Mark.END:
        key = _value(event, events, depth=depth)
        if not isinstance(key, str):
            raise DecodeError("a key that is not text", hint="write it in quotes")
        if key in members:
            raise DecodeError(f"{key[:40]!r} stands twice")
        members[key] = _value(next(events), events, depth=depth)
    return members


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and text != "-0":
        if abs(int(text)) > canonical.MAX_INTEGER:
            raise DecodeError("a number is beyond 2^53")
        return int(text)
    if text.lower() in _AMBIGUOUS_WORDS or _NUMBER_LIKE.fullmatch(text):
        raise DecodeError(f"{text[:40]!r} means different things to different readers", hint="write it in quotes")
    return text


@cache
def _dumper() -> type[yaml.SafeDumper]:
    """Return a dumper that quotes every string that is more than a word, and never writes an anchor."""
    import yaml  # noqa: PLC0415 - loaded already

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002
            super().increase_indent(flow, False)

    Dumper.add_representer(str, _represent_text)
    return Dumper


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _AMBIGUOUS_WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')
