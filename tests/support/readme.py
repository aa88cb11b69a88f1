"""The README's generated parts. ``python tests/support/readme.py`` writes them anew."""

import re
from pathlib import Path

from hpcq.job.reference import reference_markdown

README = Path(__file__).parents[2] / "README.md"


def begin(part):
    return f"<!-- {part}, by tests/support/readme.py: begin -->\n"


def end(part):
    return f"<!-- {part}: end -->\n"


def slug(heading):
    """An anchor as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def contents(text):
    """Return links to the chapters."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = re.findall(r"^## (.*)$", prose, re.MULTILINE)
    return " ·\n".join(f"[{title}](#{slug(title)})" for title in titles)


def renewed(text):
    """Return the README's text with its chapters and the job file's keys as they are now."""
    parts = {"contents": contents(text), "keys": f"\n{reference_markdown()}\n"}
    for part, inside in parts.items():
        head, _, rest = text.partition(begin(part))
        _, _, tail = rest.partition(end(part))
        text = f"{head}{begin(part)}{inside}\n{end(part)}{tail}"
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
