"""The command line. Commands that need MPI start it themselves; the others never do."""

import gc
import os
import re
import sys
import traceback
import warnings
from typing import Any

import click

from hpcq._version import __version__
from hpcq.bench.cli import bench
from hpcq.cli import analysis, checkpoint, cluster, jobs, solving, training
from hpcq.cluster.launcher import first_rank
from hpcq.errors import INTERRUPTED, ExitCode, FileWarning, HpcqError, check_compiler, check_folder
from hpcq.output import complain, protect, settle
from hpcq.run import leftovers, signals

EXIT_CODES = """\b
Exit codes: 0 done, 64 usage or job file, 65 bad checkpoint, 69 missing dependency,
70 environment or internal error, 73 run directory, 74 I/O error, 75 stopped, can be resumed,
76 stalled.
"""


class _Grouped(click.Group):
    """A group whose help lists the commands under the headings of `COMMANDS`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(str(each.name), each.get_short_help_str(limit=100)) for each in commands]
                )


@click.group(cls=_Grouped, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="hpcq")
def hpcq() -> None:
    """Distributed tabular Q-learning over MPI.

    \b
    hpcq init CartPole-v1                    (writes cartpole.toml)
    hpcq run -n 2 cartpole.toml
    hpcq inspect runs/cartpole
    """


COMMANDS: dict[str, tuple[click.Command, ...]] = {
    "Job files": (jobs.init, jobs.check, jobs.jobs, jobs.reference, training.estimate),
    "Training": (training.run, training.resume, analysis.runs),
    "Exact solutions": (solving.explore, solving.solve),
    "What was learned": (
        checkpoint.inspect,
        checkpoint.query,
        analysis.evaluate,
        analysis.plot,
        analysis.report,
        analysis.publish,
        checkpoint.diff,
        checkpoint.export,
        checkpoint.verify,
    ),
    "Clusters and machines": (
        cluster.submit,
        cluster.sweeps,
        cluster.scaling,
        cluster.launcher,
        cluster.doctor,
        bench,
    ),
}
for command in (each for commands in COMMANDS.values() for each in commands):
    hpcq.add_command(command)


# Commands that start several runs.
_POOLS = (("sweep", "run"), ("scaling", "run"))

_show_others = warnings.showwarning


def _show_warning(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
    """Show a warning as one line; with Python's option -W, others' as Python does."""
    if issubclass(category, FileWarning):
        complain(f"warning: {message}")
    elif sys.warnoptions:
        _show_others(message, category, *place, **options)
    elif first_rank():
        complain(f"warning of {_package_of(str(place[0]))}: {_plain(str(message))}")


def _plain(text: str) -> str:
    """Return a text on one line, without colours."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def _package_of(file: str) -> str:
    """Return the package, or the name of the file, that a warning comes from."""
    _, installed, inside = file.rpartition("-packages/")
    return inside.split("/")[0].removesuffix(".py") if installed else os.path.basename(file)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with a code of `errors.ExitCode`."""
    # What imports and the compiler make stays: looking for garbage in it is a tenth of a start.
    gc.set_threshold(50_000, 20, 100)
    protect()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        check_compiler()
        check_folder()
    except HpcqError as error:
        complain(str(error))
        sys.exit(int(error.exit_code))
    # Of a run, the files are the result; of other commands it is what they print.
    runs = arguments[:1] in (["run"], ["resume"], ["solve"]) or tuple(arguments[:2]) in _POOLS
    if runs:
        signals.record()
    leftovers.clean_up_at_exit()
    code = _code_of(arguments)
    if runs:
        signals.ignore()
    if (why := settle()) and not runs:
        complain(f"standard output cannot be written: {why}")
        code = code or ExitCode.STORAGE
    leftovers.leave(int(code or 0))


def _code_of(arguments: list[str]) -> Any:
    """Run the command line; return its exit code."""
    import mpi4py

    # An h5py with MPI imports mpi4py, which must not initialise MPI.
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = False
    warnings.showwarning = _show_warning
    try:
        return hpcq.main(list(arguments), prog_name="hpcq", standalone_mode=False, obj=arguments)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if first_rank():
            error.show()
        return ExitCode.USAGE
    except click.Abort:
        return INTERRUPTED
    except HpcqError as error:
        if first_rank():
            complain(str(error))
        return error.exit_code
    except Exception:
        complain(f"internal error\n{traceback.format_exc().rstrip()}")
        return ExitCode.INTERNAL
