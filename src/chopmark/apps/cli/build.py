# SPDX-License-Identifier: Apache-2.0
"""``build``: run the steps from data to package as committed code, and record each as SLSA provenance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.render import Answer, answers, good, say
from chopmark.errors import UsageError

ACCURACY = "see the test result in the ledger"
"""Stands in the card where nobody says more: a package is measured after it is made."""

_COMMAND = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.group(cls=Group)
def build() -> None:
    """Train, convert, quantise and package; each step runs committed code and leaves its provenance.

    \b
    Example, in a clean Git repository with a registered dataset in data/:
        chopmark build train -- python train.py
        chopmark build convert --from build/weights.npz -- python convert.py
        chopmark build quantise --from build/model-fp32.onnx -- python quantize.py
        chopmark build package build/model.onnx --version 1
    """


def _options(outputs: str, *, former: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    options = [
        click.argument("command", nargs=-1, required=True),
        click.option("--model", help="The model's name; default: that of the current folder."),
        click.option("--data", type=click.Path(path_type=Path), default="data", show_default=True, help="The dataset."),
        click.option("--output", default=outputs, show_default=True, help="What the command writes."),
        click.option(
            "--out", type=click.Path(path_type=Path), default="build", show_default=True, help="Where it goes."
        ),
        click.option("--params", default="params.json", show_default=True, help="Committed file of hyperparameters."),
        click.option("--param", multiple=True, metavar="NAME=VALUE", help="One hyperparameter over those of the file."),
    ]
    if former:
        options.append(
            click.option(
                "--from", "former", type=click.Path(path_type=Path), required=True, help="What the step before left."
            )
        )

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@build.command(context_settings=_COMMAND)
@_options("weights.npz", former=False)
@click.pass_obj
@answers
def train(start: Path, /, command: tuple[str, ...], **given: object) -> Answer:
    """Train on a registered dataset: COMMAND runs in a clean checkout of the commit, without network where possible.

    \b
    Example:
        chopmark build train -- python train.py
        chopmark build train --param seed=2 -- python train.py
    """
    return _run(start, "train", command, given)


@build.command(context_settings=_COMMAND)
@_options("model-fp32.onnx", former=True)
@click.pass_obj
@answers
def convert(start: Path, /, command: tuple[str, ...], **given: object) -> Answer:
    """Convert what the training left.

    \b
    Example:
        chopmark build convert --from build/weights.npz -- python convert.py
    """
    return _run(start, "convert", command, given)


@build.command(context_settings=_COMMAND)
@_options("model.onnx", former=True)
@click.pass_obj
@answers
def quantise(start: Path, /, command: tuple[str, ...], **given: object) -> Answer:
    """Quantise what the conversion left.

    \b
    Example:
        chopmark build quantise --from build/model-fp32.onnx -- python quantize.py
    """
    return _run(start, "quantise", command, given)


@build.command()
@click.argument("model_file", type=click.Path(path_type=Path))
@click.option("--version", "label", required=True, help="The release's version, for people.")
@click.option("--model", help="The model's name; default: that of the current folder.")
@click.option("--data", type=click.Path(path_type=Path), default="data", show_default=True, help="The dataset.")
@click.option(
    "--files", type=click.Path(path_type=Path), default=".", show_default=True, help="Labels, preprocessing, card."
)
@click.option("--replace", is_flag=True, help="Replace a package of this version that was never released.")
@click.option(
    "--set", "values", multiple=True, metavar="NAME=TEXT", help="Fills ${NAME} in the card, over params.json."
)
@click.pass_obj
@answers
def package(
    start: Path,
    model_file: Path,
    label: str,
    model: str | None,
    data: Path,
    files: Path,
    values: tuple[str, ...],
    *,
    replace: bool,
) -> Answer:
    """Assemble the package of MODEL_FILE: model, labels, preprocessing, card, self-test; signed for stock tools beside it.

    \b
    Example:
        chopmark build package build/model.onnx --version 1
    """
    from chopmark.apps.cli.steps import make_package
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    name = model or Path.cwd().name
    into = site.workspace.packages / f"{name}-{label}"
    params = _params(files / "params.json")
    pairs = {"version": label, "accuracy": ACCURACY} | params | dict(_pair(value) for value in values)
    made, index = make_package(
        site,
        model=name,
        model_file=model_file,
        files=files,
        data=data,
        into=into,
        values=pairs,
        replace=replace,
    )
    body = {"ok": True, "package": str(made.folder), "digest": str(made.digest), "entry": index}
    return body, [
        good(f"package {name} {label}  {made.digest}"),
        f"  {made.folder}: {len(made.manifest.files)} files; {made.oms} beside it for stock tools",
        f"  entry {index} of the ledger",
    ]


def _run(start: Path, kind: str, command: tuple[str, ...], given: dict[str, object]) -> Answer:
    from chopmark.apps.cli.steps import Step, run_step
    from chopmark.apps.cli.wiring import Site
    from chopmark.builds import parse_parameter

    site = Site.at(start)
    former, out, data = given.get("former"), given["out"], given["data"]
    params = str(given["params"])
    step = Step(
        kind=kind,
        model=str(given["model"] or Path.cwd().name),
        command=command,
        source=Path.cwd(),
        out=Path(str(out)),
        outputs=(str(given["output"]),),
        data=Path(str(data)) if Path(str(data)).is_dir() else None,
        former=Path(str(former)) if former else None,
        params_file=params if Path(params).is_file() else "",
        parameters=dict(parse_parameter(text) for text in _texts(given["param"])),
    )
    say(f"{kind}: {' '.join(command)} …")
    built, index = run_step(site, step)
    network = "without network" if built.isolated else "with network: it cannot be taken away on this machine"
    body = {
        "ok": True,
        "step": kind,
        "digest": str(built.digest),
        "outputs": {name: str(path) for name, path in built.outputs.items()},
        "isolated": built.isolated,
        "entry": index,
    }
    return body, [
        good(f"{kind}  {', '.join(map(str, built.outputs.values()))}  {built.digest}"),
        f"  ran {network}; entry {index} of the ledger",
    ]


def _params(path: Path) -> dict[str, str]:
    """Return the committed hyperparameters, for the places in the model card that are named after them."""
    from chopmark.artifacts import read_file
    from chopmark.builds import decode_parameters

    if not path.is_file():
        return {}
    return {name: str(value) for name, value in decode_parameters(read_file(path, max_bytes=1_000_000)).items()}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple) else ()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text!r}: write NAME=VALUE")
    return name, value
