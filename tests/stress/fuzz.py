#!/usr/bin/env python
"""Feed damaged checkpoints to verify, inspect and resume, and damaged texts to the job reader.

    python tests/stress/fuzz.py --count 2000 --command-line 100

Every case runs in a child forked from this warm process, with a limit on time and memory, and must
end with a documented code and without a traceback; some run through the real command line. The
damage follows from --seed and the number of the case.
"""

import argparse
import collections
import contextlib
import importlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import make_job
import mpi4py

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False

from launch import HPCQ

from hpcq.checkpoint import sandbox
from hpcq.checkpoint.h5 import h5py
from hpcq.cli import main as hpcq_main
from hpcq.errors import CheckpointError, ExitCode

# Of processor time; a busy machine may take longer by the clock.
SECONDS = 10
CLOCK_SECONDS = 120
MEMORY = 1 << 30
COMMANDS = ("verify", "inspect", "resume", "job")
MAGIC = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def describe_in_forks(paths):
    """Stand in for `sandbox.describe_each`: its fresh interpreter would take most of the time."""
    return [describe_in_a_fork(path) for path in paths]


def describe_in_a_fork(path):
    if not Path(path).is_file():
        return CheckpointError(f"{path}: no such file")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with open(writing, "w") as pipe:
            sandbox.limit()
            json.dump(sandbox.ask(str(path)), pipe)
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return CheckpointError(f"{path}: damaged: HDF5 ended with signal {os.WTERMSIG(status)}")
    try:
        return sandbox.checked(path, json.loads(text))
    except CheckpointError as error:
        return error


def damage(rng, data, metadata):
    """Return damaged bytes; `metadata`: where the parts are that HDF5 interprets."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        inside = rng.choice(metadata) if rng.random() < 0.8 else (0, len(data))
        at = rng.randrange(*inside) % len(data)
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            width, code = rng.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
            value = rng.choice(MAGIC) & (2 ** (8 * width) - 1)
            data[at : at + width] = struct.pack("<" + code, value)
        elif kind == 3:
            start, size = rng.randrange(*inside), rng.choice((8, 16, 64))
            data[at : at + size] = data[start : start + size]
        elif kind == 4:
            data[at : at + 8] = struct.pack("<Q", rng.randrange(len(data)))
        elif kind == 5 and rng.random() < 0.3:
            del data[at:]
        else:
            size = rng.choice((1, 8, 100))
            data[at : at + size] = bytes(size)
    return bytes(data)


def metadata_of(path):
    """Return the parts of a file that hold no rows."""
    with h5py.File(path, "r") as file:
        taken = []
        file.visititems(
            lambda _, item: (
                taken.append((item.id.get_offset(), item.id.get_storage_size()))
                if isinstance(item, h5py.Dataset) and item.id.get_offset()
                else None
            )
        )
    end, parts = 0, []
    for start, size in sorted(taken):
        if start > end:
            parts.append((end, start))
        end = max(end, start + size)
    total = path.stat().st_size
    return [*parts, *([(end, total)] if end < total else [])]


def damaged_text(rng, text):
    """Return a damaged job file."""
    words = ("[", "]", "{", "}", "=", '"', "\n", "\x00", "1e999", "-1", "nan", "9" * 400, "\u2028")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at] + text[at + rng.choice((1, 5, 40)) :]
        elif kind == 1:
            text = text[:at] + rng.choice(words) * rng.choice((1, 1, 2, 3000)) + text[at:]
        elif kind == 2:
            text = text[:at] + chr(rng.choice((0, 7, 127, 233, 0x1F600))) + text[at:]
        elif kind == 3:
            lines = text.split("\n")
            rng.shuffle(lines)
            text = "\n".join(lines)
        else:
            other = rng.randrange(len(text) + 1)
            text = text[:at] + text[min(at, other) : max(at, other)] + text[at:]
    data = text.encode()
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)] + bytes([rng.randrange(128, 256)]) + data
    return data


class Fuzzer:
    """One undamaged run, and the cases that are made from it."""

    def __init__(self, folder, seed):
        self.folder, self.seed = folder, seed
        job = make_job.make(
            {**make_job.GARNET, "count": 3},
            learning={"learning_rate": {"schedule": "visits", "exponent": 0.7}},
            run={"steps": 300},
        )
        self.run = folder / "run"
        source = make_job.write(folder / "job.toml", job)
        self.text = source.read_text()
        arguments = [HPCQ, "run", source, f"--set=run.directory='{self.run}'"]
        subprocess.run(arguments, check=True, capture_output=True)
        self.checkpoint = next(self.run.glob("ckpt-*.h5"))
        self.data = self.checkpoint.read_bytes()
        self.metadata = metadata_of(self.checkpoint)

    def case(self, number, command):
        """Write the damaged files of a case; return the arguments of its command line."""
        rng = random.Random(f"{self.seed} {number} {command}")
        place = self.folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if command == "job":
            (place / "job.toml").write_bytes(damaged_text(rng, self.text))
            # Refuses before it trains: what is undamaged must not take long.
            return ["run", place / "job.toml", "--set=checkpoint.writer='none'"]
        if command == "resume":
            shutil.copy(self.run / "job.json", place)
        file = place / self.checkpoint.name
        file.write_bytes(damage(rng, self.data, self.metadata))
        return ["resume", place] if command == "resume" else [command, file]


def run_forked(arguments):
    """Run a command line in a fork of this process; return (code, its standard error)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.dup2(writing, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
        try:
            run_command(list(map(str, arguments)))
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = ExitCode.INTERNAL
        sys.stderr.flush()
        os._exit(code)
    os.close(writing)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(CLOCK_SECONDS)
    with open(reading, errors="replace") as pipe:
        errors = pipe.read()
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    return os.waitstatus_to_exitcode(status), errors


# One rank, where MPI has not started.
ALONE = SimpleNamespace(
    rank=0, size=1, bcast=lambda value, root=0: value, allgather=lambda value: [value]
)


def run_command(arguments):
    """Do what the command line does; a run stops where it would start MPI, a resumed one soon."""
    from hpcq.errors import HpcqError
    from hpcq.job.job import Job
    from hpcq.run import newest_checkpoint, resumable

    command, path, *_ = arguments
    try:
        if command == "run":
            Job.load(path)
        elif command == "resume":
            job = resumable.read_job(Path(path), (), False)
            newest, _ = newest_checkpoint.newest(ALONE, job, False)
            if newest is not None:
                resume_table(job, newest)
        else:
            hpcq_main(arguments)
    except HpcqError as error:
        print(f"hpcq: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


def resume_table(job, path):
    """Load a file that passed, as a rank alone would, and take a few ticks with it."""
    from mpi4py import MPI

    from hpcq.checkpoint.restore import load_run
    from hpcq.envs.resolve import resolve
    from hpcq.learning.lockstep import LockstepLearner

    MPI.Init()
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF)
    load_run(learner, path)
    for _ in range(3):
        learner.advance()


def run_real(arguments):
    """Run the real command line; return (code, its standard error)."""
    done = subprocess.run(
        [HPCQ, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=CLOCK_SECONDS,
        check=False,
    )
    return done.returncode, done.stderr


def main():
    """Run all cases, print what was found; exit with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="of files and of texts")
    parser.add_argument("--command-line", type=int, default=100, help="of these for real")
    parser.add_argument("--commands", nargs="+", default=COMMANDS, choices=COMMANDS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    documented = {int(code) for code in ExitCode}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), options.seed)
        hpcq_main_warm(fuzzer)
        sandbox.describe_each = describe_in_forks
        for command in options.commands:
            codes, slowest = collections.Counter(), 0.0
            for number in range(options.count):
                real = number < options.command_line // len(COMMANDS)
                arguments = fuzzer.case(number, command)
                start = time.monotonic()
                code, errors = (run_real if real else run_forked)(arguments)
                slowest = max(slowest, time.monotonic() - start)
                codes[code] += 1
                if code not in documented or "Traceback" in errors:
                    wrong += 1
                    print(f"WRONG: case {number} of {command}: exit {code}\n{errors}", flush=True)
            told = ", ".join(f"{n} x {code}" for code, n in sorted(codes.items()))
            print(f"{command}: {options.count} cases, slowest {slowest:.1f} s, exit codes {told}")
    print(f"{wrong} wrong")
    sys.exit(bool(wrong))


def hpcq_main_warm(fuzzer):
    """Import and compile in this process what the forks will use."""
    with contextlib.redirect_stdout(io.StringIO()):
        for command in ("verify", "inspect"):
            with contextlib.suppress(SystemExit):
                hpcq_main([command, str(fuzzer.checkpoint)])
    importlib.import_module("hpcq.run.newest_checkpoint")


if __name__ == "__main__":
    main()
