# SPDX-License-Identifier: Apache-2.0
"""What an inspection finds, and how much it is willing to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chopmark.artifacts import Digest

MAX_FINDINGS = 100
"""After so many the walk stops: the file is refused anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest model that is walked; a larger one is refused, never sampled."""

    max_bytes: int = 512 * 1024 * 1024
    max_depth: int = 64
    """Nested messages. Protocol buffer readers stop at 100."""
    max_fields: int = 1_000_000
    """Fields of all messages together: what bounds time and memory."""
    max_nodes: int = 100_000
    """Nodes of all graphs, local functions expanded."""
    max_elements: int = 2**32
    """Elements of one tensor in the file."""
    max_output_elements: int = 2**28
    """Elements of one tensor that the model makes when it runs, as far as constants of the model decide that."""
    max_generated_elements: int = 2**30
    """Elements of all tensors together that operators make from a shape."""
    max_trips: int = 10_000
    """Rounds of a loop, loops inside loops multiplied."""
    max_rank: int = 32
    max_name_bytes: int = 4_096
    """Names, and each string that a model computes with."""
    max_text_bytes: int = 1024 * 1024
    """Descriptions and metadata values."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason to refuse a file."""

    code: str
    where: str
    """A path like ``graph.node[3].attribute[0].g.initializer[1]``, or ``byte 17``."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What one file is. Only a complete walk without a finding passes; everything else is a refusal."""

    format: str
    """What the bytes are, whatever the file is called: ``onnx``, ``pickle``, ``zip``, … or ``unknown``."""
    sha256: Digest
    """Of the very bytes that were walked."""
    length: int
    findings: tuple[Finding, ...]
    bytes_covered: int
    """Bytes whose meaning is known; ``complete`` requires all of them."""
    complete: bool
    operators: Mapping[str, int] = field(default_factory=dict)
    """How often each operator stands in the file, subgraphs and functions included."""
    initializers: int = 0
    parameters: int = 0
    """Elements of all initializers."""

    @property
    def passed(self) -> bool:
        """Whether every byte was understood and nothing was found."""
        return self.complete and not self.findings
