# SPDX-License-Identifier: Apache-2.0
"""Names: each is made once, before it is read, and what nobody reads is not in the file.

A file in which one name has two producers, or nodes stand in a circle, means something else to each reader. Weights that no
output depends on are bytes that travel with a model and are no part of it. (A node whose result nobody reads, and which
stores next to nothing, is no such thing: exporters leave them behind.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from chopmark.inspection.onnx_message import Find, Message, subgraphs

_CARRIERS = frozenset({"g", "graphs", "sparse_tensor", "sparse_tensors", "strings", "tensors"})
"""Values of attributes that can hold any bytes."""
_MAX_LEFT_BEHIND = 8
"""Elements of a constant that an exporter may leave behind: an axis, a shape, a zero."""


class Names:
    """The rules of names, for one file."""

    def __init__(self, find: Find) -> None:
        self.find = find

    def graph(self, graph: Message, outer: Sequence[set[str]] = ()) -> set[str]:
        """Judge a graph and those inside it; return the names of outer graphs that it reads."""
        inputs = [value.text("name") for value in graph.kept("input")]
        stored = [tensor.text("name") for tensor in tensors(graph)]
        outputs = [value.text("name") for value in graph.kept("output")]
        self.unique(graph.where, inputs, "input")
        self.unique(graph.where, stored, "initializer")
        if "" in stored or "" in inputs or "" in outputs:
            self.find("no-name", graph.where, "an input, output or initializer has no name")
        if not outputs:
            self.find("no-output", graph.where, "a graph without outputs")
        for name in sorted({*inputs, *stored}):
            if any(name in names for names in outer):
                self.find("duplicate-name", graph.where, f"{name[:80]!a} means something else outside of this graph")
        used = self._scope(graph, outer, {*inputs, *stored}, outputs)
        own = {*inputs, *stored, *(name for node in graph.kept("node") for name in node.names("output"))}
        for name in stored:
            if name not in used:
                self.find("unused", graph.where, f"no output depends on the initializer {name[:80]!a}")
        return used - own

    def function(self, function: Message) -> None:
        """Judge a local function: it sees its own inputs and nothing else."""
        inputs, outputs = function.names("input"), function.names("output")
        attributes = [*function.names("attribute"), *(one.text("name") for one in function.kept("attribute_proto"))]
        self.unique(function.where, inputs, "input")
        self.unique(function.where, attributes, "attribute")
        if not function.kept("node") or not outputs:
            self.find("empty-function", function.where, f"function {function.text('name')[:80]!a} computes nothing")
        self._scope(function, (), set(inputs), outputs)

    def unique(self, where: str, names: Iterable[str], what: str) -> None:
        """Find a name that stands twice."""
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            self.find("duplicate-name", where, f"{what} {twice[0][:80]!a} stands twice")

    def _scope(self, scope: Message, outer: Sequence[set[str]], known: set[str], outputs: list[str]) -> set[str]:
        """Follow the nodes of a graph or function; return all names that are read in it."""
        visible, read = [known, *outer], [self._node(node, [known, *outer]) for node in scope.kept("node")]
        self.unique(scope.where, outputs, "output")
        for name in outputs:
            if not any(name in names for names in visible):
                self.find("undefined-name", scope.where, f"nothing makes the output {name[:80]!a}")
        used = set(outputs)
        for node, names in zip(reversed(scope.kept("node")), reversed(read), strict=True):
            if not used.isdisjoint(node.names("output")):
                used |= names
            elif any(_stores(attribute) for attribute in node.kept("attribute")):
                self.find("unused", node.where, "nobody reads what is stored in this node")
        return used

    def _node(self, node: Message, visible: Sequence[set[str]]) -> set[str]:
        """Judge a node in the place where it stands; return the names it reads."""
        read = {name for name in node.names("input") if name}
        for name in sorted(read):
            if not any(name in names for names in visible):
                self.find("undefined-name", node.where, f"{name[:80]!a} is read before anything makes it")
        for graph in subgraphs(node.kept("attribute")):
            read |= self.graph(graph, visible)
        for name in node.names("output"):
            if name and any(name in names for names in visible):
                self.find("duplicate-name", node.where, f"{name[:80]!a} is made a second time")
            if name:
                visible[0].add(name)
        return read


def tensors(graph: Message) -> list[Message]:
    """Return the initializers of a graph, of sparse ones the values."""
    sparse = [values for one in graph.kept("sparse_initializer") for values in one.kept("values")]
    return [*graph.kept("initializer"), *sparse]


def _stores(attribute: Message) -> bool:
    large = any(tensor.elements > _MAX_LEFT_BEHIND for tensor in attribute.kept("t"))
    return large or not _CARRIERS.isdisjoint(attribute.counts)
