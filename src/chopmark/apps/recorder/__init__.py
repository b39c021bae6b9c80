# SPDX-License-Identifier: Apache-2.0
"""The recorder: a notebook's cell, a function or a script as a step with SLSA provenance.

    with chopmark.record("train") as run:
        run.param(epochs=3)
        rows = Path("data/rows.csv").read_text()        # seen, and recorded as an input
        Path("model.onnx").write_bytes(fit(rows))       # seen, and recorded as the output

    @chopmark.record("train")                           # arguments are the parameters
    def fit(rows: Path, *, epochs: int = 3) -> None: ...

It is no part of what a device loads: ``chopmark.load`` reaches nothing here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from chopmark.apps.recorder.run import Run
from chopmark.apps.recorder.surroundings import Caller, caller_of, calling
from chopmark.apps.recorder.wiring import open_desk
from chopmark.builds import BuildType, model_name, recorded_step
from chopmark.canonical import check_name
from chopmark.errors import UsageError

__all__ = ["Recorded", "Recorder", "Run", "record"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

_current: ContextVar[Run | None] = ContextVar("chopmark_run", default=None)


class Recorded(Protocol[P, R_co]):
    """A function whose calls are recorded."""

    @property
    def last(self) -> Run | None:
        """The newest run that ended well; None before the first."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function as a step."""
        ...

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., R_co]:
        """Bind a method."""
        ...


def record(
    step: str,
    *,
    model: str | None = None,
    key: str | Path | None = None,
    folder: str | Path | None = None,
    track_files: bool = True,
    sign: bool = True,
) -> Recorder:
    """Record a block (``with``) or each call of a function (as a decorator) as SLSA provenance.

    Args:
        step: ``train``, ``convert`` or ``quantise``.
        model: the statement is about ``model/<model>``; default: the name of *folder*.
        key: a private key file; default: the builder's keys of the workspace that *folder* is in, where they are here,
            and then the statement is logged too.
        folder: files below it are watched and named from it; default: the current folder when the run begins.
        track_files: False records only what ``run.input`` and ``run.output`` name.
        sign: False leaves the statement unsigned.

    Raises:
        UsageError: no such step, or no name for a model.
    """
    return Recorder(
        step=recorded_step(step),
        model=None if model is None else check_name(model, what="model"),
        key=key,
        folder=None if folder is None else Path(folder),
        track_files=track_files,
        sign=sign,
    )


class Recorder:
    """Opens runs of one step. :func:`record` makes it."""

    def __init__(
        self,
        *,
        step: BuildType,
        model: str | None,
        key: str | Path | None,
        folder: Path | None,
        track_files: bool,
        sign: bool,
    ) -> None:
        self._step = step
        self._model = model
        self._key = key
        self._folder = folder
        self._track_files = track_files
        self._sign = sign

    def __enter__(self) -> Run:
        """Begin a run.

        Raises:
            UsageError: another run is open here (``record-nested``), or the key or the workspace cannot be used.
            UndecidedError: the key is not here.
        """
        run = self._new(calling())
        run.begin()
        _current.set(run)
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run: with a statement where the block went well. What it raised goes on."""
        run = _current.get()
        if run is None or not run.is_open:
            raise UsageError("no run is open here", hint="end it where it began: one block, one context")
        _current.set(None)
        if kind is None:
            run.end()
        else:
            run.fail()

    def __call__(self, function: Callable[P, R]) -> Recorded[P, R]:
        """Return *function* so that each call is a run; its arguments are the parameters.

        Raises:
            UsageError: a generator, which has no end of its own; or no function.
        """
        if not inspect.isroutine(function):
            raise UsageError(
                f"{type(function).__name__}: is no function",
                hint="decorate a function, or write: with chopmark.record(…) as run",
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError(
                f"{function.__qualname__}: is a generator, and runs only while somebody reads it",
                hint="use `with chopmark.record(…) as run` around the loop that reads it",
            )
        caller, signature = caller_of(function), inspect.signature(function)

        def begin(args: tuple[object, ...], kwargs: dict[str, object]) -> Run | None:
            """Return the run of a call; None where the call itself is wrong, which the function says best."""
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                return None
            bound.apply_defaults()
            run = self._new(caller)
            for name, value in _arguments(bound):
                run.argument(name, value)
            run.begin()
            _current.set(run)
            return run

        wrapper = _wrap_async(function, begin) if inspect.iscoroutinefunction(function) else _wrap(function, begin)
        wrapper.last = None  # type: ignore[attr-defined]
        return cast("Recorded[P, R]", wrapper)

    def _new(self, caller: Caller) -> Run:
        open_here = _current.get()
        if open_here is not None and open_here.is_open:
            raise UsageError(
                f"a run of {open_here.step} is open here",
                code="record-nested",
                hint="end it first: one step, one statement",
            )
        folder = (self._folder or Path.cwd()).resolve()
        if not folder.is_dir():
            raise UsageError(f"{folder}: is not a folder", hint="name the folder that the step works in")
        return Run(
            step=self._step,
            model=self._model or model_name(folder.name),
            folder=folder,
            desk=open_desk(folder, key=self._key, signed=self._sign),
            caller=caller,
            watch=self._track_files,
        )


def _wrap(
    function: Callable[..., object], begin: Callable[[tuple[object, ...], dict[str, object]], Run | None]
) -> Callable[..., object]:
    @wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        run = begin(args, kwargs)
        if run is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException:
            _close(run).fail()
            raise
        _end(run, wrapper)
        return result

    return wrapper


def _wrap_async(
    function: Callable[..., Awaitable[object]], begin: Callable[[tuple[object, ...], dict[str, object]], Run | None]
) -> Callable[..., object]:
    @wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> object:
        run = begin(args, kwargs)
        if run is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException:
            _close(run).fail()
            raise
        _end(run, wrapper)
        return result

    return wrapper


def _close(run: Run) -> Run:
    _current.set(None)
    return run


def _end(run: Run, wrapper: Any) -> None:
    wrapper.last = _close(run)  # before it ends: a statement that could not be logged is still there
    run.end()


def _arguments(bound: inspect.BoundArguments) -> list[tuple[str, object]]:
    """Return names and values; those of ``**kwargs`` as if they were declared, and no ``self``."""
    found: list[tuple[str, object]] = []
    for number, (name, value) in enumerate(bound.arguments.items()):
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found += list(value.items())
        elif not (number == 0 and name in {"self", "cls"}) and not (
            kind is inspect.Parameter.VAR_POSITIONAL and not value
        ):
            found.append((name, value))
    return found
