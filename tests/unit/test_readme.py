"""What the README.md pages name is there: commands and their options, files, links; Python runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import click
import pytest
import readme

from hpcq.cli import hpcq
from hpcq.errors import ExitCode

COMMANDS = [line for block in readme.blocks() for line in block.commands]
# "hpcq report" alone is the command's name.
NAMED = [line for line in readme.inline() if " hpcq " in f" {line}" and line.count(" ") > 1]
HPCQ = [
    match[1]
    for line in dict.fromkeys([*COMMANDS, *NAMED])
    if (match := re.match(r"(?:(?:mpirun|srun) -n \d+ )?hpcq ([a-z][^>]*)", line))
]
# Run by whoever runs the tests, and by CI in a clone of its own.
OURS = (
    "./jobs/quickstart",
    "./tests/run",
    "./tests/run setup",
    "./tests/run lowest",
    "./tests/run all",
    "./tests/run lint",
    "./tests/run coverage",
    ".venv-full/bin/pre-commit install",
)
VIEW = "hpcq/view/README.md"
OPTUNA = next(block for block in readme.blocks(VIEW, "python") if "import optuna" in block.text)
REFERENCE = [line for line in COMMANDS if "api_reference.py" in line]
PYTEST = [line for line in COMMANDS if " -m pytest " in line or "tests/ranks/main.py" in line]


@pytest.mark.parametrize("line", HPCQ)
def test_every_command_is_one(line):
    """Read as far as the command line is checked; nothing is run."""
    words = shlex.split(line)
    command = hpcq
    while isinstance(command, click.Group) and words:
        command = command.commands[words.pop(0)]
    if not isinstance(command, click.Group):
        command.make_context("hpcq", words)


def test_every_block_of_commands_is_run_by_a_test():
    """bash: test_readme_commands.py; Slurm: test_modules.py; the others by what they start."""
    assert len(HPCQ) > 25
    slurm = [line for block in readme.blocks(readme.SLURM) for line in block.commands]
    others = [
        line
        for block in readme.blocks()
        if block.kind != "bash" and block.page != readme.SLURM
        for line in block.commands
    ]
    tested = {
        *slurm,
        *readme.benchmarks(),  # jobs/test_bench.py
        *readme.hdf5_tools(),  # jobs/test_answers.py
        *readme.installs(),  # jobs/test_wheel.py
        *OURS,
        *PYTEST,
        *REFERENCE,
    }
    assert set(others) <= tested


def test_every_command_in_a_sentence_is_run_by_a_test():
    """By what they start; nobody but Slurm's own events is left out."""
    named = {line for line in readme.inline() if re.fullmatch(r"hpcq [a-z]+", line)}
    tested = {
        *readme.in_sentences("hpcq"),  # jobs/test_readme_commands.py
        *readme.benchmarks(),  # jobs/test_bench.py
        *readme.in_sentences("pip"),  # jobs/test_wheel.py
        *readme.in_sentences("sbatch"),  # slurm/test_modules.py, slurm/test_sweeps.py
        *readme.in_sentences("python"),  # stress/test_stress.py, and a test below
        *OURS,
    }
    assert set(readme.inline()) - named - tested == {"scontrol requeue"}
    assert {line.split("/")[-1] for line in readme.in_sentences("python")} == {
        "delays.py",
        "fuzz.py",
        "kills.py",
        "losses.py",
        "meetings.py",
        "readme.py",
    }


@pytest.mark.parametrize("command", PYTEST)
def test_tests_are_started_as_the_pages_say(command):
    """They are collected only: they run anyway."""
    run(f"{command} --collect-only", readme.ROOT)


def test_the_api_reference_is_made_by_one_command(tmp_path):
    (command,) = REFERENCE
    run(command.replace("tests/", f"{readme.ROOT}/tests/"), tmp_path)
    pages = tmp_path / command.split()[-1]
    # A name that is loaded when it is first used, and a module that `__all__` does not name.
    assert "yield a report about every" in (pages / "hpcq.html").read_text()
    assert 'id="compiled_environment"' in (pages / "hpcq" / "envs" / "protocol.html").read_text()


def run(command, folder):
    # Not what MPI, where another test has started it in this process, has put beside os.environ.
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_generated_parts_are_written_anew(tmp_path):
    (command,) = (line for line in readme.in_sentences("python") if line.endswith("readme.py"))
    pages = readme.pages()
    for name in (command.split()[1], *pages):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(readme.ROOT / name, tmp_path / name)
    page = tmp_path / "jobs" / "README.md"
    page.write_text(page.read_text().replace("| `run.seed` |", "| `run.sed` |"))
    subprocess.run([sys.executable, *command.split()[1:]], cwd=tmp_path, check=True)
    assert {name: (tmp_path / name).read_text() for name in pages} == pages


def test_the_front_page_is_short():
    assert readme.pages()[readme.FRONT].count("\n") < 250


@pytest.mark.parametrize("name", readme.pages())
def test_every_link_leads_somewhere(name):
    text = readme.pages()[name]
    for target in readme.links(text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (readme.ROOT / name).parent / path if path else readme.ROOT / name
        assert file.exists(), target
        assert readme.ROOT in (file.resolve(), *file.resolve().parents), target
        if anchor:
            assert anchor in readme.anchors(file.read_text()), target


def test_every_page_is_reached_from_the_front_page():
    pages, reached = readme.pages(), {readme.FRONT}
    while True:
        found = {
            ((readme.ROOT / name).parent / target.partition("#")[0])
            .resolve()
            .relative_to(readme.ROOT)
            .as_posix()
            for name in reached
            for target in readme.links(pages[name])
            if "://" not in target and target.partition("#")[0].endswith("README.md")
        }
        if found <= reached:
            break
        reached |= found
    assert reached == set(pages)


def test_every_folder_of_the_package_is_listed():
    cells = readme.table("hpcq/README.md", "Layout of the code")
    listed = {name for cell in cells for name in re.findall(r"`([\w./]+)`", cell)}
    package = readme.PACKAGE
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert folders <= listed
    assert {name for name in listed if not (package / name).exists()} == set()


def test_every_exit_code_is_explained():
    codes = re.findall(r"^\| (\d+) \|", readme.pages()["hpcq/run/README.md"], re.MULTILINE)
    assert [int(code) for code in codes] == list(ExitCode)


def test_every_example_in_python_is_run_by_a_test():
    examples = readme.blocks(kind="python")
    files = [block for block in examples if block.text.startswith('"""')]  # of hpcq, in full
    own = [block for block in examples if re.match(r"# \w+\.py\n", block.text)]
    (plain,) = (block for block in examples if block.text.startswith("import h5py"))
    rest = [block for block in examples if block not in (*files, *own, plain)]
    # jobs/test_own_environments.py, test_outcomes.py; jobs/test_answers.py; the tests below.
    assert [block.text.split("\n")[0] for block in own] == [
        "# walk.py",
        "# corridor.py",
        "# ferry.py",
    ]
    assert {block.page for block in rest} == {readme.FRONT, VIEW}


def test_what_is_shown_from_python_runs(tmp_path):
    program = "\n".join(
        block.text
        for page in (readme.FRONT, VIEW)
        for block in readme.blocks(page, "python")
        if block != OPTUNA
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *reports, action, front_mean, values, mean, row, total = done.stdout.splitlines()
    assert int(reports[-1].split()[0]) == 2_000_000
    assert re.match(r"[0-3] \[", action)
    assert values.startswith("[")
    assert 0.5 < float(mean) <= 1
    assert front_mean == mean
    assert row.startswith("11 True [")
    assert 0 < float(total) < 1
    assert (tmp_path / "runs" / "lake" / "metrics.jsonl").exists()


STUDY = """
from types import SimpleNamespace


class Trial(SimpleNamespace):
    def suggest_float(self, name, low, high, log):
        self.params = {name: low * (high / low) ** (self.number / 2)}
        return self.params[name]


def create_study(direction):
    study = SimpleNamespace()

    def optimize(objective, n_trials):
        trials = [Trial(number=number) for number in range(2)]
        study.best_value, best = max((objective(trial), trial.number) for trial in trials)
        study.best_params = trials[best].params

    study.optimize = optimize
    return study
"""


def test_the_example_with_optuna_runs(tmp_path):
    """With a stand-in, which tries two points: the tests do not install Optuna."""
    (tmp_path / "optuna.py").write_text(STUDY)
    (tmp_path / "example.py").write_text(OPTUNA.text)
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"{'learning_rate': (.*)} (.*)", done.stdout)
    assert 0.01 <= float(found[1]) < 0.5
    assert 0.2 < float(found[2]) <= 1
