# SPDX-License-Identifier: Apache-2.0
"""CEL behind three methods: compile an expression, bind values, evaluate. Only ``True`` of type bool is a yes.

The library's ``Value`` is truthy for *false* and for an *error* too, and the ``value()`` of an error is a text; so nothing
but :meth:`CelEngine.eval` looks at one. Expressions are type-checked when a policy is read, and bounded in length, in
depth (the library: 32) and in iterations (the library: 10,000; beyond them is an error, and an error denies).

Turning values into CEL's takes far longer than evaluating a rule over them; so they are bound once, and every rule of a
decision is evaluated over the same.

Source: Common Expression Language, language definition 0.24; ``cel-expr-python`` 0.1.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

from cel_expr_python import cel

from chopmark.errors import DecodeError
from chopmark.policy.model import Phase

MAX_EXPRESSION_CHARS: Final = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What an expression came to.

    Attributes:
        holds: it is the boolean true.
        error: why it could not be evaluated; then *holds* is False.
    """

    holds: bool
    error: str = ""


class Engine(Protocol):
    """Something that evaluates CEL. Two engines must agree on every policy that ships."""

    def compile(self, source: str, phase: Phase) -> object:
        """Return a program of type bool over the variables of *phase*.

        Raises:
            DecodeError: too long, no CEL, an unknown variable, or not a condition.
        """
        ...

    def bind(self, phase: Phase, values: Mapping[str, object]) -> object:
        """Return *values*, at most one for each variable of *phase*, for any number of evaluations; they must not change.

        Never raises: what is no value of CEL's, or is not there, is an error of each program that looks at it.
        """
        ...

    def eval(self, program: object, bound: object) -> Answer:
        """Evaluate a program over bound values; never raises."""
        ...


class CelEngine:
    """The engine in use: Google's C++ implementation."""

    def compile(self, source: str, phase: Phase) -> object:
        if len(source) > MAX_EXPRESSION_CHARS:
            raise DecodeError(f"a CEL expression of {len(source):,} characters; {MAX_EXPRESSION_CHARS:,} are allowed")
        return _compiled(source, phase)

    def bind(self, phase: Phase, values: Mapping[str, object]) -> object:
        return _environment(phase).Activation(data=values)  # which converts each variable when a program asks for it

    def eval(self, program: object, bound: object) -> Answer:
        if not isinstance(program, cel.Expression) or not isinstance(bound, cel.Activation):
            return Answer(holds=False, error="not a program, or not values, of this engine")
        try:
            value = program.eval(bound)
            if value.type() == cel.Type.BOOL:
                return Answer(holds=value.value() is True)
            return Answer(holds=False, error=_one_line(str(value.value())))
        except Exception as error:  # noqa: BLE001  # a binding may raise anything; whatever it is, it denies
            return Answer(holds=False, error=_one_line(str(error)))


@cache
def _environment(phase: Phase) -> Any:
    a_map = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    variables = {"facts": cel.Type.List(a_map), "release": a_map, "now": cel.Type.STRING}
    if phase is Phase.APPROVAL:
        variables["approvals"] = cel.Type.List(cel.Type.STRING)
    return cel.NewEnv(variables=variables)


@cache
def _compiled(source: str, phase: Phase) -> object:
    try:
        program = _environment(phase).compile(source)
    except Exception as error:
        raise DecodeError(f"not CEL: {_one_line(str(error))}", hint=f"the expression is: {source[:200]}") from error
    if program.return_type() != cel.Type.BOOL:
        raise DecodeError(f"not a condition: a rule is true or false, this is {program.return_type().name()}")
    return program


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
