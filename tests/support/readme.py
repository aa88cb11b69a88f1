"""The README's generated part. ``python tests/support/readme.py`` writes it anew."""

from pathlib import Path

from hpcq.job.reference import reference_markdown

README = Path(__file__).parents[2] / "README.md"
BEGIN = "<!-- by tests/support/readme.py: begin -->\n"
END = "<!-- by tests/support/readme.py: end -->\n"


def renewed(text):
    """Return the README's text with the job file's keys as they are now."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{reference_markdown()}\n\n{END}{tail}"


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
