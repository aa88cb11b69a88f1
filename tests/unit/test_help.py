"""Every command explains itself, with an example that is a right command."""

import os
import re
import shlex
import subprocess

import click
import pytest

from hpcq.cli import hpcq


def commands(command=hpcq, name="hpcq"):
    yield name, command
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from commands(inner, f"{name} {part}")


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example(name):
    found = re.findall(rf"^.*{name}(?: .*)?$", COMMANDS[name].help, re.MULTILINE)
    assert found
    for line in found:
        words = shlex.split(re.split(r"hpcq ", line, maxsplit=1)[-1].partition("  ")[0])
        words = words[: words.index(">")] if ">" in words else words
        words = words[: words.index("&&")] if "&&" in words else words
        command = hpcq
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        if not isinstance(command, click.Group):
            command.make_context("hpcq", words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and not parameter.show_default:
            assert parameter.help, parameter.name


def test_a_shell_completes_commands():
    words = {"_HPCQ_COMPLETE": "bash_complete", "COMP_WORDS": "hpcq insp", "COMP_CWORD": "1"}
    found = subprocess.run(
        ["hpcq"], env={**os.environ, **words}, capture_output=True, text=True, check=False
    )
    assert "plain,inspect" in found.stdout.split()
