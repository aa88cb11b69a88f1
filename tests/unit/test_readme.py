"""What the README names is there: commands and their options, files, sections; Python runs."""

import re
import shlex
import shutil
import subprocess
import sys

import click
import pytest
import readme

from hpcq.cli import hpcq

COMMANDS = [line for block in readme.blocks() for line in block.commands]
# "hpcq report" alone is the command's name.
NAMED = [line for line in readme.inline() if " hpcq " in f" {line}" and line.count(" ") > 1]
HPCQ = [
    match[1]
    for line in dict.fromkeys([*COMMANDS, *NAMED])
    if (match := re.match(r"(?:(?:mpirun|srun) -n \d+ )?hpcq ([a-z][^>]*)", line))
]
# Run by whoever runs the tests, and by CI in a clone of its own.
OURS = ("./jobs/quickstart", "./tests/run")


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
    """bash: test_readme_commands.py; Slurm: slurm/test_readme.py; the others by what they start."""
    assert len(HPCQ) > 25
    others = [
        line
        for block in readme.blocks()
        if block.kind != "bash" and block.chapter != readme.slurm()
        for line in block.commands
    ]
    assert set(others) <= {*readme.benchmarks(), *readme.hdf5_tools(), *OURS}


def test_every_command_in_a_sentence_is_run_by_a_test():
    """By what they start; nobody but Slurm's own events is left out."""
    named = {line for line in readme.inline() if re.fullmatch(r"hpcq [a-z]+", line)}
    tested = {
        *readme.in_sentences("hpcq"),  # jobs/test_readme_commands.py
        *readme.benchmarks(),  # jobs/test_bench.py
        *readme.in_sentences("pip"),  # jobs/test_wheel.py
        *readme.in_sentences("sbatch"),  # slurm/test_modules.py, slurm/test_sweeps.py
        *readme.in_sentences("python"),  # stress/test_stress.py, and the test below
    }
    assert set(readme.inline()) - named - tested == {"scontrol requeue"}
    assert {line.split("/")[-1] for line in readme.in_sentences("python")} == {
        "fuzz.py",
        "kills.py",
        "readme.py",
    }


def test_the_readmes_own_parts_are_written_anew(tmp_path):
    (command,) = (line for line in readme.in_sentences("python") if line.endswith("readme.py"))
    program = tmp_path / command.split()[1]
    program.parent.mkdir(parents=True)
    shutil.copy(readme.__file__, program)
    text = readme.README.read_text()
    (tmp_path / "README.md").write_text(text.replace("| `run.seed` |", "| `run.sed` |"))
    subprocess.run([sys.executable, *command.split()[1:]], cwd=tmp_path, check=True)
    assert (tmp_path / "README.md").read_text() == text


def test_every_link_leads_somewhere():
    text = readme.README.read_text()
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = {readme.slug(title) for title in re.findall(r"^#+ (.*)$", plain, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]*)\)", plain):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (readme.README.parent / target).exists(), target


def test_what_is_shown_from_python_runs(tmp_path):
    program = "\n".join(block.text for block in readme.blocks("From Python", "python"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *reports, values, mean, row, total = done.stdout.splitlines()
    assert int(reports[-1].split()[0]) == 2_000_000
    assert values.startswith("[")
    assert 0.5 < float(mean) <= 1
    assert row.startswith("11 True [")
    assert 0 < float(total) < 1
    assert (tmp_path / "runs" / "lake" / "metrics.jsonl").exists()
