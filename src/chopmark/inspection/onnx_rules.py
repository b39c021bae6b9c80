# SPDX-License-Identifier: Apache-2.0
"""What may not stand in an ONNX model, judged message by message while it is walked.

The rules hold wherever a message stands: in the graph, in the branches of ``If``, the bodies of ``Loop`` and ``Scan``, in
attributes, in local functions, in training information. When the model is whole, :mod:`~chopmark.inspection.onnx_names` and
:mod:`~chopmark.inspection.onnx_sizes` look at how its parts fit together.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chopmark.inspection.model import MAX_FINDINGS, Finding, Limits
from chopmark.inspection.onnx_attributes import ATTRIBUTES
from chopmark.inspection.onnx_message import Message
from chopmark.inspection.onnx_names import Names
from chopmark.inspection.onnx_sizes import FunctionKey, Sizes
from chopmark.inspection.onnx_tensors import ELEMENTS, INT64, judge_tensor
from chopmark.inspection.operators import DEFAULT_OPERATORS, OPSET_VERSIONS, STANDARD_DOMAIN, domain_of, operator_name
from chopmark.inspection.protobuf import Malformed

IR_VERSIONS = range(3, 15)
MAX_FUNCTIONS = 500

_MAIN = "graph"
_RUNTIME_KEY = re.compile(r"ort_config|(?:session|ep)[._].*|ep_context.*", re.DOTALL)
"""Metadata that ONNX Runtime can be told to read its own settings from, and keys of its settings."""

_TAKEN_DOMAINS = (
    "ai.onnx",
    "com.amd",
    "com.intel",
    "com.microsoft",
    "com.ms",
    "com.nvidia",
    "com.xilinx",
    "org.pytorch",
)
"""Where runtimes have operators of their own: a harmless local function of the same name may not be what runs."""
_PLAIN_DOMAIN = re.compile(r"[A-Za-z0-9_.:/+-]+")
"""No spaces, and no letters of other alphabets that look like these."""

_ATTRIBUTE_VALUES: Mapping[int, str] = {
    1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs",
    11: "sparse_tensor", 12: "sparse_tensors", 13: "tp", 14: "type_protos",
}  # fmt: skip
"""AttributeProto.AttributeType -> the one field that holds the value."""
_LISTS = frozenset({"floats", "ints", "strings", "tensors", "graphs", "sparse_tensors", "type_protos"})
_VALUES = frozenset(_ATTRIBUTE_VALUES.values())


@dataclass(frozen=True, slots=True)
class _Call:
    caller: str
    function: FunctionKey
    attributes: frozenset[str]
    where: str


class Rules:
    """The findings of one walk, and what was counted on the way."""

    def __init__(self, *, limits: Limits, allowed: Mapping[str, frozenset[str]]) -> None:
        self.limits = limits
        self.allowed = {domain_of(domain): names for domain, names in allowed.items()}
        self.findings: list[Finding] = []
        self.operators: Counter[str] = Counter()
        self.initializers = 0
        self.parameters = 0
        self._nodes: Counter[str] = Counter()
        self._calls: list[_Call] = []
        self._functions: dict[FunctionKey, Message] = {}
        self._names = Names(self.find)
        self._judges: Mapping[str, Callable[[Message], None]] = {
            "Model": self._model,
            "Graph": self._graph,
            "Node": self._node,
            "Attribute": self._attribute,
            "Tensor": self._tensor,
            "SparseTensor": self._sparse,
            "TensorType": self._type,
            "MapType": self._type,
            "Function": self._function,
        }

    def judge(self, message: Message) -> None:
        """Apply the rules of its kind to a message that was walked to its end."""
        judge = self._judges.get(message.kind)
        if judge:
            judge(message)

    def find(self, code: str, where: str, message: str) -> None:
        """Note a reason to refuse.

        Raises:
            Malformed: there are so many that the rest is not worth reading.
        """
        if len(self.findings) >= MAX_FINDINGS:
            raise Malformed("too-many-findings", 0, f"more than {MAX_FINDINGS} findings; the rest was not read")
        self.findings.append(Finding(code, where or "model", message))

    # Messages, from the outside in.

    def _model(self, model: Message) -> None:
        if model.number("ir_version") not in IR_VERSIONS:
            self.find("version", "ir_version", f"IR version {model.number('ir_version')} is not one of 3 to 14")
        if "graph" not in model.counts:
            self.find("no-graph", "model", "there is no graph")
        if "training_info" in model.counts:
            self.find("training", "training_info", "what a model is trained with has no place on a device")
        self._metadata(model)
        for function in model.kept("functions"):
            self._opsets(function)
            self._names.function(function)
        self._opsets(model)
        self._resolve()
        for graph in model.kept("graph"):
            self._inputs(graph)
            self._names.graph(graph)
            if self._expansion():
                Sizes(limits=self.limits, functions=self._functions, find=self.find).run(graph)

    def _metadata(self, model: Message) -> None:
        keys = [entry.text("key") for entry in model.kept("metadata_props")]
        self._names.unique("metadata_props", keys, "metadata key")
        for key in sorted(key for key in keys if _RUNTIME_KEY.fullmatch(_folded(key))):
            self.find("runtime-settings", "metadata_props", f"{key[:80]!a} would configure the runtime")

    def _resolve(self) -> None:
        """Find calls of functions that are not there or do not fit, and functions that nobody calls."""
        called = {
            function: self._functions[function]
            for function in {call.function for call in self._calls}
            if function in self._functions
        }
        declared = {
            key: {*one.names("attribute"), *(default.text("name") for default in one.kept("attribute_proto"))}
            for key, one in called.items()
        }
        for call in self._calls:
            if call.function not in called:
                name = operator_name(*call.function[:2])
                self.find("domain-denied", call.where, f"{name[:80]!a} is of a domain that is not allowed")
            elif unknown := call.attributes - declared[call.function]:
                self.find("attribute", call.where, f"{min(unknown)[:80]!a} is no attribute of the function")
        for key in self._functions.keys() - called.keys():
            self.find("unused", self._functions[key].where, f"nobody calls the function {key[1][:80]!a}")

    def _inputs(self, graph: Message) -> None:
        inputs = {value.text("name") for value in graph.kept("input")}
        stored = {tensor.text("name") for tensor in graph.kept("initializer")}
        if not inputs - stored:
            self.find(
                "no-input", graph.where, "nothing that it is fed makes a difference: each input has a value already"
            )

    def _opsets(self, message: Message) -> None:
        own = {domain for domain, _, _ in self._functions}
        seen: list[str] = []
        for entry in message.kept("opset_import"):
            domain, version = domain_of(entry.text("domain")), entry.number("version")
            seen.append(domain)
            if domain not in self.allowed and domain not in own:
                self.find("domain-denied", entry.where, f"domain {domain[:80]!a} is not allowed")
            elif domain == STANDARD_DOMAIN and version not in OPSET_VERSIONS:
                self.find("version", entry.where, f"operator set {version} is not one of 7 to {OPSET_VERSIONS[-1]}")
        self._names.unique(message.where or "model", seen, "operator set of domain")
        standard = any(name in self.allowed.get(STANDARD_DOMAIN, ()) for name in self.operators)
        if message.kind == "Model" and standard and STANDARD_DOMAIN not in seen:
            self.find("version", "opset_import", "no version of the standard operators is named")

    def _expansion(self) -> bool:
        """Whether the nodes can be counted with every local function put in the place of its call; a circle never ends."""
        callees: dict[str, list[str]] = {}
        for call in self._calls:
            if call.function in self._functions:
                callees.setdefault(call.caller, []).append(self._functions[call.function].where)
        sizes: dict[str, int] = {}

        def size(name: str, above: tuple[str, ...]) -> int:
            if name in above or len(above) > self.limits.max_depth:
                return self.limits.max_nodes + 1
            if name not in sizes:
                sizes[name] = self._nodes[name] + sum(size(callee, (*above, name)) for callee in callees.get(name, []))
            return sizes[name]

        if len(self._functions) > MAX_FUNCTIONS:
            self.find("too-many-nodes", "functions", f"more than {MAX_FUNCTIONS} functions")
            return False
        names = (_MAIN, *(function.where for function in self._functions.values()))
        fits = all(size(name, ()) <= self.limits.max_nodes for name in names)
        if not fits:
            self.find(
                "too-many-nodes",
                _MAIN,
                f"functions call in a circle, too deep, or beyond {self.limits.max_nodes:,} nodes",
            )
        return fits

    def _graph(self, graph: Message) -> None:
        stored = graph.kept("initializer")
        self.initializers += len(stored) + graph.counts.get("sparse_initializer", 0)
        self.parameters += sum(tensor.elements for tensor in stored)

    def _function(self, function: Message) -> None:
        key = (domain_of(function.text("domain")), function.text("name"), function.text("overload"))
        domain = _folded(key[0])
        if domain in {_folded(one) for one in self.allowed} or domain.startswith(_TAKEN_DOMAINS):
            self.find("function-shadows", function.where, f"a function in the domain {key[0][:80] or 'ai.onnx'!a}")
        elif not _PLAIN_DOMAIN.fullmatch(key[0]):
            self.find("domain-denied", function.where, f"domain {key[0][:80]!a} is not written in plain letters")
        if key in self._functions:
            self.find("duplicate-name", function.where, f"function {key[1][:80]!a} stands twice")
        self._functions[key] = function

    def _node(self, node: Message) -> None:
        domain, op_type = domain_of(node.text("domain")), node.text("op_type")
        root = node.where.partition(".")[0]
        caller = root if root.startswith("functions[") else _MAIN
        self._nodes[caller] += 1
        if self._nodes.total() > self.limits.max_nodes:
            raise Malformed("too-many-nodes", 0, f"more than {self.limits.max_nodes:,} nodes")
        self.operators[operator_name(domain, op_type)] += 1
        attributes = [attribute.text("name") for attribute in node.kept("attribute")]
        self._names.unique(node.where, attributes, "attribute")
        if domain == STANDARD_DOMAIN and op_type in DEFAULT_OPERATORS[STANDARD_DOMAIN]:
            self._meaning(node, ATTRIBUTES.get(op_type, frozenset()))
        if op_type in self.allowed.get(domain, frozenset()):
            return
        if domain in self.allowed:
            name = operator_name(domain, op_type)
            self.find("operator-denied", node.where, f"operator {name[:80]!a} is not allowed")
        else:
            key = (domain, op_type, node.text("overload"))
            self._calls.append(_Call(caller, key, frozenset(attributes), node.where))

    def _meaning(self, node: Message, known: frozenset[tuple[str, str]]) -> None:
        """Find attributes that a standard operator does not have."""
        for attribute in node.kept("attribute"):
            name, held = attribute.text("name"), _ATTRIBUTE_VALUES.get(attribute.number("type"), "")
            if (name, held) not in known:
                self.find(
                    "attribute", attribute.where, f"{node.text('op_type')} has no attribute {name[:80]!a} of this type"
                )

    def _attribute(self, attribute: Message) -> None:
        kind, present = attribute.number("type"), _VALUES.intersection(attribute.counts)
        wanted = _ATTRIBUTE_VALUES.get(kind)
        if wanted is None:
            self.find("attribute", attribute.where, f"attribute type {kind}")
        elif attribute.text("ref_attr_name"):
            if present or not attribute.where.startswith("functions["):
                self.find("attribute", attribute.where, "refers to an attribute of a function, and must not")
        elif present - {wanted} or (wanted not in present and wanted not in _LISTS):
            self.find(
                "attribute", attribute.where, f"should hold {wanted}, holds {', '.join(sorted(present)) or 'nothing'}"
            )

    def _tensor(self, tensor: Message) -> None:
        judge_tensor(tensor, limits=self.limits, find=self.find)

    def _sparse(self, sparse: Message) -> None:
        values, indices = sparse.kept("values"), sparse.kept("indices")
        if not values or not indices:
            self.find("tensor", sparse.where, "a sparse tensor without values or indices")
            return
        count, rank = values[0].numbers.get("dims", []), sparse.counts.get("dims", 0)
        fits = indices[0].numbers.get("dims", []) in (count, [*count, rank])
        if len(count) != 1 or not fits or indices[0].number("data_type") != INT64:
            self.find("tensor", sparse.where, "values and indices of a sparse tensor do not fit")
        if sparse.where.rpartition(".")[2].startswith("sparse_initializer"):
            self.parameters += values[0].elements

    def _type(self, message: Message) -> None:
        name = "key_type" if message.kind == "MapType" else "elem_type"
        if message.number(name) not in ELEMENTS:
            self.find("tensor", message.where, f"element type {message.number(name)}")


def _folded(text: str) -> str:
    """Return a name as somebody reads it who does not look closely."""
    return unicodedata.normalize("NFKC", text).casefold().strip()
