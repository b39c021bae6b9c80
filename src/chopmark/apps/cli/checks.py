# SPDX-License-Identifier: Apache-2.0
"""``test``, ``inspect`` and ``sbom``: what is found out about a package before anybody approves it."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, bad, columns, counted, good

LIBRARIES = ("onnxruntime", "numpy", "onnx", "scikit-learn")


@click.command()
@click.argument("package", type=click.Path(path_type=Path, file_okay=False))
@click.option("--model", help="The model's name; default: that of the current folder.")
@click.option("--data", type=click.Path(path_type=Path), default="data", show_default=True, help="The dataset.")
@click.pass_obj
@answers
def test(start: Path, package: Path, model: str | None, data: Path) -> Answer:
    """Measure the model in PACKAGE on the rows that were held back, with the real runtime, and record the result.

    \b
    Example:
        chopmark test ../packages/digits-1/package
    """
    from chopmark.apps.cli.steps import test_package
    from chopmark.apps.cli.wiring import Site

    done, index = test_package(Site.at(start), model=model or Path.cwd().name, folder=package, data=data)
    found = done.evaluation
    ok = done.result != "FAILED"
    body = {
        "ok": ok,
        "result": done.result,
        "accuracy_ppm": found.accuracy_ppm,
        "held_back": found.count,
        "entry": index,
    }
    line = f"{done.result}: {found.correct} of {found.count} held back are right, {found.accuracy_ppm / 10_000:.1f} %"
    return body, [good(line) if ok else bad(line), f"  entry {index} of the ledger"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--model", help="Record the result for this model; PATH is then its package folder.")
@click.pass_obj
@answers
def inspect(start: Path, path: Path, model: str | None) -> Answer:
    """Look into a model file without loading it: every byte, every operator, every subgraph.

    \b
    Example:
        chopmark inspect model.onnx
        chopmark inspect ../packages/digits-1/package --model digits
    """
    from chopmark.inspection import inspect_file

    index = None
    if model is None:
        found = inspect_file(path / "model.onnx" if path.is_dir() else path)
    else:
        from chopmark.apps.cli.steps import inspect_package
        from chopmark.apps.cli.wiring import Site

        found, index = inspect_package(Site.at(start), model=model, folder=path)
    body = {
        "ok": found.passed,
        "format": found.format,
        "sha256": found.sha256.hex,
        "complete": found.complete,
        "operators": dict(found.operators),
        "findings": [{"code": f.code, "where": f.where, "message": f.message} for f in found.findings],
        "entry": index,
    }
    logged = [] if index is None else [f"  entry {index} of the ledger"]
    if found.passed:
        operators = counted(len(found.operators), "operator")
        line = f"{found.format}: {operators}, all allowed; {found.bytes_covered:,} of {found.length:,} bytes"
        rows = columns([(n, str(c)) for n, c in sorted(found.operators.items())], indent="  ")
        return body, [good(line), *rows, *logged]
    line = f"{found.format}: refused, {found.bytes_covered:,} of {found.length:,} bytes understood"
    rows = columns([(f.code, f.where, f.message) for f in found.findings], indent="  ")
    return body, [bad(line), *rows, *logged]


@click.command()
@click.argument("package", type=click.Path(path_type=Path, file_okay=False))
@click.option("--version", "label", required=True, help="The release's version.")
@click.option("--model", help="The model's name; default: that of the current folder.")
@click.option("--data", type=click.Path(path_type=Path), default="data", show_default=True, help="The dataset.")
@click.option("--library", multiple=True, default=LIBRARIES, show_default=True, help="Installed libraries to list.")
@click.option("--out", type=click.Path(path_type=Path), help="The file; default: sbom.cdx.json beside the package.")
@click.pass_obj
@answers
def sbom(
    start: Path, package: Path, label: str, model: str | None, data: Path, library: tuple[str, ...], out: Path | None
) -> Answer:
    """Write the CycloneDX 1.6 bill of PACKAGE: model, dataset, libraries; each named by its digest.

    \b
    Example:
        chopmark sbom ../packages/digits-1/package --version 1
    """
    from chopmark.apps.cli.steps import write_sbom
    from chopmark.apps.cli.wiring import Site

    file = out or package.parent / "sbom.cdx.json"
    bill, index = write_sbom(
        Site.at(start),
        model=model or Path.cwd().name,
        folder=package,
        data=data,
        label=label,
        libraries=library,
        out=file,
    )
    parts = bill.get("components")
    count = len(parts) if isinstance(parts, list) else 0
    body = {"ok": True, "sbom": str(file), "components": count, "entry": index}
    return body, [
        good(f"CycloneDX 1.6: {count} components beside the model, valid: {file}"),
        f"  entry {index} of the ledger",
    ]
