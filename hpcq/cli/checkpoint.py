"""The commands that read checkpoints."""

import json
from pathlib import Path
from typing import Any

import click

from hpcq.cli.options import AS_JSON, FILE
from hpcq.errors import ExitCode, HpcqError
from hpcq.output import complain, echo
from hpcq.printable import printable
from hpcq.run.formatting import json_text


def observation_of(text: str) -> Any:
    """Return an observation that is given as JSON."""
    try:
        return json.loads(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not JSON; expected an observation such as 42, [3, 1] or '{{\"a\": 1}}'",
            param_hint="OBSERVATION",
        ) from None


@click.command()
@FILE
@AS_JSON
@click.option("--row", metavar="OBSERVATION", help="Show one state, given as JSON: 42 or [3, 1].")
@click.option("--key", type=int, help="Show the state of this key of /table/key.")
@click.option("--top", default=3, show_default=True, type=click.IntRange(0), help="States to show.")
@click.option("--whole", is_flag=True, help="Read all states, not a random sample.")
def inspect(
    file: Path, as_json: bool, row: str | None, key: int | None, top: int, whole: bool
) -> ExitCode:
    """Show what a checkpoint holds; FILE may be a run directory: its newest one.

    \b
    hpcq inspect runs/taxi
    hpcq inspect runs/taxi/ckpt-000000020000256.h5 --top 10 --whole
    """
    from hpcq.view import inspect as inspection
    from hpcq.view.present import row_text, summary_text

    if row is not None and key is not None:
        raise click.UsageError("--row and --key exclude each other")
    if row is not None or key is not None:
        if row is not None:
            (found,) = inspection.query(file, [observation_of(row)])
        else:
            found = inspection.query_key(file, key or 0)
        echo(json_text(found) if as_json else row_text(found))
    else:
        summary = inspection.inspect(file, top, whole)
        echo(json_text(summary) if as_json else summary_text(summary))
    return ExitCode.DONE


# An observation may be a negative number.
@click.command(context_settings={"ignore_unknown_options": True})
@FILE
@click.argument("observations", metavar="OBSERVATION...", nargs=-1, required=True)
@AS_JSON
def query(file: Path, observations: tuple[str, ...], as_json: bool) -> ExitCode:
    """Show the Q-values of observations, given as JSON, without loading the table.

    For each one that is none of the environment's there is an error, and the exit code is 64.

    \b
    hpcq query runs/taxi 328
    hpcq query runs/gridworld "[14, 10]" "[20, 1]"
    hpcq query runs/mine '{"position": [3, 1], "fuel": 2}' --json
    """
    from hpcq.errors import JobError
    from hpcq.view import inspect as inspection
    from hpcq.view.present import row_text
    from hpcq.view.table import Table

    code, requested = ExitCode.DONE, [observation_of(text) for text in observations]
    with Table(file) as table:
        for given in requested:
            try:
                found = inspection.row_of(table, given)
                echo(json_text(found) if as_json else row_text(found))
            except JobError as error:
                if as_json:
                    echo(json_text({"observation": given, "error": str(error)}))
                complain(str(error))
                code = ExitCode.USAGE
    return code


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@AS_JSON
@click.option("--top", default=3, show_default=True, type=click.IntRange(0), help="States to show.")
def diff(a: Path, b: Path, as_json: bool, top: int) -> ExitCode:
    """Show how two checkpoints differ: states, Q-values, greedy actions.

    \b
    hpcq diff runs/taxi/ckpt-000000010000384.h5 runs/taxi/ckpt-000000020000256.h5
    """
    from hpcq.view.difference import difference
    from hpcq.view.present import difference_text

    found = difference(a, b, top)
    echo(json_text(found) if as_json else difference_text(found))
    return ExitCode.DONE


@click.command()
@FILE
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--what",
    type=click.Choice(["table", "policy"]),
    default="table",
    show_default=True,
    help="All Q-values (and visits), or greedy actions and values alone.",
)
def export(file: Path, output: Path, what: str) -> ExitCode:
    """Write a checkpoint's rows, observations decoded, to OUTPUT: .csv, .npz or .parquet.

    \b
    hpcq export runs/taxi taxi.csv --what policy
    """
    from hpcq.view.export import export as write

    rows = write(file, output, what)
    echo(f"{output}: {rows:,} states")
    return ExitCode.DONE


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
def verify(files: tuple[str, ...]) -> ExitCode:
    """Check checkpoints in full: structure, checksums, order, digest.

    FILE may be a run directory: its newest checkpoint.

    \b
    hpcq verify runs/taxi/ckpt-*.h5
    """
    from hpcq.checkpoint.files import claims_other_step, locate
    from hpcq.checkpoint.verification import verify as check

    code = ExitCode.DONE
    for named in files:
        try:
            file, found = locate(named)
            header, digest = check(file, found)
        except HpcqError as error:
            complain(str(error))
            # Damage outweighs what could not be looked into.
            code = code if code == ExitCode.CHECKPOINT else error.exit_code
            continue
        lie = " (not that of its name)" if claims_other_step(file, header.step) else ""
        echo(f"{printable(file)}: whole, step {header.step:,}{lie}, digest {digest}")
    return code
