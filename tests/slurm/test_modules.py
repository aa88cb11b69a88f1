"""The page on Slurm, slurm/README.md, as it stands there, on sites with and without modules."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import fresh
import make_job
import pytest
import readme
from launch import summary
from work import ROOT, TRAIN

from hpcq.jit.cache import wanted

INIT = Path("/usr/share/modules/init/bash")
MPI = ("mpi", "orte", "orted", "prte", "ompi")

BLOCKS = [block.commands for block in readme.blocks(readme.SLURM) if block.commands]
WITH_MODULES = next(lines for lines in BLOCKS if any("module load" in line for line in lines))
WITHOUT = next(lines for lines in BLOCKS if any("quickstart" in line for line in lines))
THEN = [line for lines in BLOCKS if lines not in (WITH_MODULES, WITHOUT) for line in lines]
# What is measured on whole nodes has its test in test_sweeps.py.
SBATCH = [
    line
    for line in readme.inline(readme.SLURM)
    if line.startswith("sbatch ") and "scaling" not in line
]
# Smaller than what people want, by the same words; and nobody ends what follows a log.
SMALLER = [
    (r"<this repository> (.*)", rf"{ROOT} \1 && sed -i 's/1, 2, 3/1, 2/' jobs/sweeps/*"),
    (r"--ntasks([ =])\d+", r"--ntasks\g<1>2"),
    (r"(submit .*taxi\.toml.*)", r"\1 --set run.steps=200_000"),
    (r"((submit|sweep run) .*sweeps.*)", r"\1 --set run.steps=20_000"),
    (r"tail -f", "tail"),
    # Whoever submits waits for the end.
    (r"^(hpcq submit .*|sbatch .*)", r'said=$(\1); echo "$said"; finish "$said"'),
]
FINISH = """
finish() {
    number=$(sed -nE 's/.*ubmitted (as|batch job) ([0-9]+).*/\\2/p' <<<"$1")
    while squeue -h -j "$number" | grep -q .; do sleep 0.3; done
}
"""


def smaller(line):
    for pattern, by in SMALLER:
        line = re.sub(pattern, by, line)
    return line


def links(folder, names, sources):
    """Fill a folder with links to the programs, of these folders, that `names` chooses."""
    folder.mkdir(parents=True)
    for source in sources:
        for program in Path(source).iterdir():
            if names(program.name) and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return folder


@pytest.fixture
def site(cluster, tmp_path):
    """Return a function that runs bash as on the login node of a site with modules."""
    assert INIT.exists(), "environment-modules is missing: run tests/slurm/install"
    system = ("/usr/bin", "/usr/sbin")
    bare = links(tmp_path / "bare", lambda name: not name.startswith(MPI), system)
    mpi = links(tmp_path / "openmpi" / "bin", lambda name: name.startswith(MPI), system)
    hdf5 = links(tmp_path / "hdf5" / "bin", lambda name: name == "h5pcc", system)
    python = tmp_path / "python" / "bin"
    python.mkdir(parents=True)
    (python / "python3").symlink_to(sys.executable)
    files = tmp_path / "modulefiles"
    files.mkdir()
    for name, folder in (("python", python), ("openmpi", mpi), ("hdf5", hdf5)):
        (files / name).write_text(f"#%Module\nprepend-path PATH {folder}\n")
    (tmp_path / "home").mkdir()
    variables = {
        **cluster.environment,
        "PATH": str(bare),
        "HOME": str(tmp_path / "home"),
        "HPCQ_CACHE_DIR": str(wanted()),
    }
    variables.pop("VIRTUAL_ENV", None)

    def run(script, code=0, **others):
        prelude = f"set -eu\n. {INIT}\nmodule use {files}\ncd {tmp_path}\n{FINISH}"
        done = subprocess.run(
            [shutil.which("bash"), "-c", prelude + script],
            env={**variables, **others}, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET, run={"steps": 3000}))
    return run


@pytest.mark.timeout(1800)
def test_from_the_login_node_to_an_inspected_run(cluster, site, tmp_path):
    clone = tmp_path / "hpcq"
    assert "hpcq" not in site("command -v hpcq mpirun || true")
    # Packages that would take minutes to install are there already.
    packages = fresh.variables(tmp_path / "packages")
    said = site("\n".join(map(smaller, [*WITH_MODULES, *THEN])), **packages)
    assert "problem: " not in said
    assert summary(clone / "runs" / "taxi")["ranks"] == 2
    assert re.search(r"200,\d{3} steps", said)
    assert "4 of 4 runs done" in said
    # Without modules, MPI is where all programs are.
    lines = [line.partition(" && ")[2] if "git clone" in line else line for line in WITHOUT]
    script = "\n".join(map(smaller, [*lines, *SBATCH]))
    path = f"{tmp_path / 'python' / 'bin'}:{tmp_path / 'openmpi' / 'bin'}:{tmp_path / 'bare'}"
    said = site(script, **packages, PATH=path)
    number = said.split("Submitted batch job ")[1].strip()
    cluster.finish(number)
    # What the quickstart has trained is done.
    assert "resuming" in (clone / f"hpcq-{number}.log").read_text()


def activate(home):
    """Make an environment that is the tests' own."""
    (home / "hpcq-venv" / "bin").mkdir(parents=True)
    (home / "hpcq-venv" / "bin" / "activate").write_text(
        f"PATH={Path(sys.executable).parent}:$PATH\n"
    )


def test_with_the_lines_for_the_site_in_the_script(cluster, site, tmp_path):
    """Nothing is loaded where sbatch is called."""
    activate(tmp_path / "home")
    text, count = re.subn(r"^# (module load|\. \"\$HOME)", r"\1", TRAIN.read_text(), flags=re.M)
    assert count == 2
    (tmp_path / "train.sbatch").write_text(text)
    number = site("sbatch --parsable --ntasks=2 --time=5 train.sbatch job.toml").strip()
    cluster.finish(number)
    assert summary(tmp_path / "runs" / "job")["ranks"] == 2


def test_without_modules_the_script_says_what_is_missing(cluster, site, tmp_path):
    number = site(f"sbatch --parsable --ntasks=2 --time=5 {TRAIN} job.toml").strip()
    cluster.finish(number, "FAILED")
    assert cluster.job(number)["ExitCode"] == "69:0"
    assert "hpcq: no hpcq on PATH" in (tmp_path / f"hpcq-{number}.log").read_text()
