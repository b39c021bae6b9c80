# SPDX-License-Identifier: Apache-2.0
"""One message of an ONNX file as the walk met it: what the rules look at, and views of the weights instead of copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chopmark.inspection.protobuf import signed, varints

MAX_NUMBERS = 64
"""A constant of more numbers is no shape: a rank is at most 32, and ``Pad`` takes two of each."""

Find = Callable[[str, str, str], None]
"""``find(code, where, message)`` notes a reason to refuse."""


@dataclass(slots=True)
class Message:
    """What was read of one message."""

    kind: str
    where: str
    counts: dict[str, int] = field(default_factory=dict)
    """Values of each field that is present; for packed numbers, how many numbers."""
    numbers: dict[str, list[int]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    children: dict[str, list[Message]] = field(default_factory=dict)
    data: dict[str, memoryview | bytearray] = field(default_factory=dict)
    """Packed numbers, numbers of fixed width and raw data, as they lie in the file."""
    elements: int = 0
    """Of a tensor: the product of its dimensions."""

    def count(self, name: str, values: int = 1) -> None:
        """Note that a field is present, with so many values more."""
        self.counts[name] = self.counts.get(name, 0) + values

    def number(self, name: str, default: int = 0) -> int:
        """Return a singular number."""
        return self.numbers.get(name, [default])[0]

    def integers(self, name: str) -> list[int]:
        """Return the numbers of a repeated field, packed or not; nothing where they are more than a shape has."""
        if self.counts.get(name, 0) > MAX_NUMBERS:
            return []
        if name in self.data:
            return [signed(value) for value in varints(self.data[name])]
        return self.numbers.get(name, [])

    def text(self, name: str) -> str:
        """Return a singular string."""
        return self.texts.get(name, [""])[0]

    def kept(self, name: str) -> list[Message]:
        """Return the messages of a field, of those kinds that are kept."""
        return self.children.get(name, [])

    def only(self, name: str) -> Message | None:
        """Return the message of a singular field."""
        return next(iter(self.kept(name)), None)

    def names(self, name: str) -> list[str]:
        """Return the strings of a repeated field."""
        return self.texts.get(name, [])


def subgraphs(attributes: Iterable[Message]) -> list[Message]:
    """Return the graphs in the attributes of a node."""
    return [graph for one in attributes for graph in (*one.kept("g"), *one.kept("graphs"))]
