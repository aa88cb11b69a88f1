"""The commands that read checkpoints."""

import json
from pathlib import Path

import click

from hpcq.errors import ExitCode


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--row", metavar="OBSERVATION", help="Show one state, given as JSON: 42 or [3, 1].")
def inspect(file: Path, as_json: bool, row: str | None) -> ExitCode:
    """Show what a checkpoint holds.

    \b
    hpcq inspect runs/taxi/ckpt-000000020000000.h5 --row 328
    """
    from hpcq.view import inspect as inspection
    from hpcq.view.present import row_text, summary_text

    if row is not None:
        try:
            observation = json.loads(row)
        except ValueError:
            raise click.BadParameter(f"{row!r} is not JSON", param_hint="--row") from None
        found = inspection.inspect_row(file, observation)
        click.echo(json.dumps(found) if as_json else row_text(found))
    else:
        summary = inspection.inspect(file)
        click.echo(json.dumps(summary) if as_json else summary_text(summary))
    return ExitCode.DONE


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
def verify(files: tuple[str, ...]) -> ExitCode:
    """Check checkpoints in full: structure, checksums, order, digest.

    \b
    hpcq verify runs/taxi/ckpt-*.h5
    """
    from hpcq.checkpoint.reader import verify as check
    from hpcq.errors import CheckpointError

    code = ExitCode.DONE
    for file in files:
        try:
            header, digest = check(file)
            click.echo(f"{file}: whole, step {header.step:,}, digest {digest}")
        except CheckpointError as error:
            click.echo(f"hpcq: {error}", err=True)
            code = ExitCode.CHECKPOINT
    return code
