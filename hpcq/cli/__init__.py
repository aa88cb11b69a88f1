"""The command line. Commands that need MPI start it themselves; the others never do."""

import sys
import traceback
from typing import Any

import click

from hpcq import __version__
from hpcq.bench.cli import bench
from hpcq.cli import files, jobs, results, sites, training
from hpcq.cluster.launch import complain, discard_output
from hpcq.cluster.launcher import first_rank
from hpcq.errors import ExitCode, HpcqError

EXIT_CODES = """\b
Exit codes: 0 done, 64 usage or job file, 65 bad checkpoint, 69 missing dependency,
70 environment or internal error, 73 run directory, 74 I/O error, 75 stopped, can be resumed,
76 stalled.
"""


@click.group(epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="hpcq")
def hpcq() -> None:
    """Distributed tabular Q-learning over MPI.

    \b
    mpirun -n 4 hpcq run jobs/taxi.toml
    hpcq inspect runs/taxi/ckpt-*.h5
    """


COMMANDS = (
    jobs.jobs,
    jobs.reference,
    jobs.init,
    training.run,
    training.resume,
    training.estimate,
    files.inspect,
    files.query,
    files.diff,
    files.export,
    files.verify,
    results.evaluate,
    results.plot,
    results.report,
    sites.doctor,
    sites.submit,
    sites.sweeps,
    sites.scaling,
    bench,
)
for command in COMMANDS:
    hpcq.add_command(command)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with a code of `errors.ExitCode`."""
    import mpi4py

    # An h5py with MPI imports mpi4py: that alone must start nothing.
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = False
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = hpcq.main(list(arguments), prog_name="hpcq", standalone_mode=False, obj=arguments)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        if first_rank():
            error.show()
        code = ExitCode.USAGE
    except click.Abort:
        code = 130
    except HpcqError as error:
        if first_rank():
            complain(str(error))
        code = error.exit_code
    except BrokenPipeError:
        discard_output()
        code = ExitCode.DONE
    except Exception:
        complain(f"internal error\n{traceback.format_exc().rstrip()}")
        code = ExitCode.INTERNAL
    sys.exit(int(code or 0))
