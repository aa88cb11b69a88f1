"""What the README names is there: commands and their options, files, sections."""

import re

import click
import pytest
from readme import README, slug

from hpcq.cli import hpcq

TEXT = README.read_text()
PLAIN = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
LINES = [line for kind, text in FENCED if kind in ("", "bash") for line in text.splitlines()]
COMMANDS = [
    match[1]
    for line in LINES
    if (match := re.match(r"(?:(?:mpirun|srun) -n \d+ )?hpcq ([a-z][^#>]*)", line))
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one(line):
    """Read as far as the command line is checked; nothing is run."""
    words = re.findall(r"'[^']*'|\"[^\"]*\"|\S+", line)
    command = hpcq
    while isinstance(command, click.Group) and words:
        command = command.commands[words.pop(0)]
    if not isinstance(command, click.Group):
        command.make_context("hpcq", words)


def test_there_are_commands():
    assert len(COMMANDS) > 25


def test_every_link_leads_somewhere():
    headings = {slug(text) for text in re.findall(r"^#+ (.*)$", PLAIN, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]*)\)", PLAIN):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (README.parent / target).exists(), target
