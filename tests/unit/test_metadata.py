"""What the project says of itself in several places is the same."""

import configparser
import re
from importlib import resources
from pathlib import Path

import hpcq

ROOT = Path(__file__).parents[2]


def test_the_citation_is_of_this_version():
    said = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert said.group(1) == hpcq.__version__


def test_type_checkers_are_told_that_hpcq_is_annotated():
    assert resources.files(hpcq).joinpath("py.typed").is_file()
    packaged = configparser.ConfigParser()
    packaged.read(ROOT / "setup.cfg")
    assert "py.typed" in packaged["options.package_data"]["hpcq"]
