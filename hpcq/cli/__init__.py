"""The command line. Commands that need MPI start it themselves; the others never do."""

import os
import sys
import traceback
import warnings
from typing import Any

import click

from hpcq._version import __version__
from hpcq.bench.cli import bench
from hpcq.cli import analysis, checkpoint, cluster, jobs, training
from hpcq.cluster.launcher import first_rank
from hpcq.errors import INTERRUPTED, ExitCode, FileWarning, HpcqError
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
    "Job files": (jobs.init, jobs.jobs, jobs.reference, training.estimate),
    "Training": (training.run, training.resume),
    "What was learned": (
        checkpoint.inspect,
        checkpoint.query,
        analysis.evaluate,
        analysis.plot,
        analysis.report,
        checkpoint.diff,
        checkpoint.export,
        checkpoint.verify,
    ),
    "Clusters and machines": (
        cluster.submit,
        cluster.sweeps,
        cluster.scaling,
        cluster.doctor,
        bench,
    ),
}
for command in (each for commands in COMMANDS.values() for each in commands):
    hpcq.add_command(command)


_show_others = warnings.showwarning


def _show_warning(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
    """Show a warning of hpcq's as one line, any other as Python does."""
    if issubclass(category, FileWarning):
        complain(f"warning: {message}")
    else:
        _show_others(message, category, *place, **options)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with a code of `errors.ExitCode`."""
    protect()
    arguments = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        complain(
            "NUMBA_DISABLE_JIT is set: without numba's compiler there are no kernels; unset "
            "NUMBA_DISABLE_JIT"
        )
        sys.exit(int(ExitCode.DEPENDENCY))
    # Of a run, the files are the result; of other commands it is what they print.
    runs = arguments[:1] in (["run"], ["resume"])
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
