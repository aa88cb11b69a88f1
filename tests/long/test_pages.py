"""Reports open in a browser: needs Chromium (Debian's package chromium)."""

from pathlib import Path

import pytest
from console import chromium, console
from launch import hpcq

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("frozenlake8x8", ["run.steps=5_000_000"]),
        # So few steps do not find home from anywhere.
        ("cube", ["run.steps=40_000_000", "environment.kwargs.scramble=5"]),
        ("taxi", ["run.steps=5_000_000"]),
    ],
)
def test_a_page_opens_without_a_word_in_the_console(name, changes, tmp_path):
    """Pictures of the pages stay in pytest's folder, for people to look at."""
    browser = chromium()
    assert browser, "no Chromium here"
    run = tmp_path / "run"
    sets = [f"--set={change}" for change in (f"run.directory='{run}'", *changes)]
    hpcq(2, "run", JOBS / f"{name}.toml", *sets)
    hpcq(None, "report", run)
    profile = tmp_path / "profile"
    profile.mkdir()
    assert console(browser, run / "report.html", profile, tmp_path / f"{name}.png") == []


def test_what_a_console_says_is_heard(tmp_path):
    browser = chromium()
    assert browser, "no Chromium here"
    page = tmp_path / "page.html"
    page.write_text("<h1>Page</h1>" * 300 + "<script>console.error('heard'); missing()</script>")
    said = console(browser, page, tmp_path)
    assert len(said) == 2
    assert "heard" in said[0]
