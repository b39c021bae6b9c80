# SPDX-License-Identifier: Apache-2.0
"""How much a model will want when it runs, as far as its own constants decide that.

A file of a hundred bytes can ask for terabytes (``ConstantOfShape``, ``Expand``, ``Pad`` with a constant of 2^40) or for ever (a
``Loop``). Graphs are gone through in order, with local functions in the place of their calls.

Does not decide how much memory a model needs: sizes that depend on what it is fed count as 1. That is what the limits of the
process are for that runs it.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from chopmark.inspection.model import Limits
from chopmark.inspection.onnx_message import Find, Message, subgraphs
from chopmark.inspection.onnx_names import tensors
from chopmark.inspection.onnx_shapes import UNKNOWN, Attributes, Value, either, makes_from_a_shape, standard
from chopmark.inspection.onnx_tensors import numbers_of
from chopmark.inspection.operators import STANDARD_DOMAIN, domain_of

FunctionKey = tuple[str, str, str]
"""Domain, name, overload."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk is: what is known there, the attributes of the call it is in, how often it runs, how deep it is."""

    known: ChainMap[str, Value] = field(default_factory=ChainMap)
    given: Attributes = field(default_factory=dict)
    trips: int = 1
    depth: int = 0

    def values(self, names: Sequence[str]) -> list[Value]:
        return [self.known.get(name, UNKNOWN) for name in names]


class _Enough(Exception):
    """Something was found; more of it is of no interest."""


class Sizes:
    """The bounds of one file whose functions do not call each other in a circle."""

    def __init__(self, *, limits: Limits, functions: Mapping[FunctionKey, Message], find: Find) -> None:
        self.limits = limits
        self.find = find
        self._functions = functions
        self._generated = 0
        self._work = 0

    def run(self, graph: Message) -> None:
        """Judge the graph of a model and all it runs; the first thing that is too large ends it."""
        try:
            self._graph(graph, _Place())
        except _Enough:
            return

    def _refuse(self, code: str, where: str, message: str) -> NoReturn:
        self.find(code, where, message)
        raise _Enough

    def _spend(self, scope: Message, place: _Place, work: int) -> None:
        """Bound what the walk itself costs: the same function may be called from many places."""
        self._work += work
        if self._work > self.limits.max_fields:
            self._refuse("too-many-nodes", scope.where, f"functions expand beyond {self.limits.max_fields:,} fields")
        if place.depth > self.limits.max_depth:
            self._refuse("too-deep", scope.where, f"calls and graphs nested deeper than {self.limits.max_depth}")

    def _graph(self, graph: Message, place: _Place) -> list[Value]:
        inputs, stored = graph.kept("input"), tensors(graph)
        self._spend(graph, place, len(inputs) + len(stored))
        known = place.known.new_child({value.text("name"): UNKNOWN for value in inputs})
        known.update({tensor.text("name"): Value(tensor.elements, numbers_of(tensor)) for tensor in stored})
        inside = replace(place, known=known, depth=place.depth + 1)
        self._nodes(graph, inside)
        return inside.values([value.text("name") for value in graph.kept("output")])

    def _nodes(self, scope: Message, place: _Place) -> None:
        for node in scope.kept("node"):
            outputs = node.names("output")
            self._spend(node, place, 1 + len(node.names("input")) + len(outputs) + len(node.kept("attribute")))
            attributes = {one.text("name"): _resolved(one, place.given) for one in node.kept("attribute")}
            place.known.update(zip(outputs, self._node(node, attributes, place), strict=False))
            place.known.pop("", None)

    def _node(self, node: Message, attributes: Attributes, place: _Place) -> list[Value]:
        domain, op_type = domain_of(node.text("domain")), node.text("op_type")
        values = place.values(node.names("input"))
        function = self._functions.get((domain, op_type, node.text("overload")))
        if function is not None:
            return self._call(function, values, attributes, place)
        inner = subgraphs(attributes.values())
        if inner:
            place = replace(place, trips=self._trips(node, values, place.trips))
            results = [self._graph(graph, place) for graph in inner]
            return [either(one) for one in zip(*results, strict=False)] if op_type == "If" else []
        if domain != STANDARD_DOMAIN:
            return []
        made = standard(op_type, values, attributes)
        self._generated += made.elements if makes_from_a_shape(op_type) else 0
        if made.elements > self.limits.max_output_elements or self._generated > self.limits.max_generated_elements:
            self._refuse("too-much-memory", node.where, f"{op_type} makes {made.elements:,} elements or more")
        return [made]

    def _call(self, function: Message, values: list[Value], attributes: Attributes, place: _Place) -> list[Value]:
        inside = _Place(
            known=ChainMap(dict(zip(function.names("input"), values, strict=False))),
            given={**{one.text("name"): one for one in function.kept("attribute_proto")}, **attributes},
            trips=place.trips,
            depth=place.depth + 1,
        )
        self._nodes(function, inside)
        return inside.values(function.names("output"))

    def _trips(self, node: Message, values: list[Value], trips: int) -> int:
        """Return how often the inside of a node runs, the loops around it counted.

        A ``Scan`` runs as often as its input is long, which is no more than was fed; one inside another loop is not.
        """
        op_type, most = node.text("op_type"), self.limits.max_trips
        if op_type == "If":
            return trips
        if op_type == "Scan" and trips == 1:
            return most
        bound = values[0].numbers if op_type == "Loop" and values else None
        if bound is None or len(bound) != 1 or not 0 <= bound[0] * trips <= most:
            self._refuse("loop", node.where, f"no constant bounds this {op_type[:80]!a} to {most:,} rounds in all")
        return max(1, int(bound[0])) * trips


def _resolved(attribute: Message, given: Attributes) -> Message:
    """Return the attribute that is meant: inside of a function, perhaps one of the call."""
    name = attribute.text("ref_attr_name")
    return given.get(name, attribute) if name else attribute
