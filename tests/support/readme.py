"""The README's blocks and commands, and its generated parts.

``python tests/support/readme.py`` writes the generated parts anew.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hpcq.job.reference import reference_markdown

README = Path(__file__).parents[2] / "README.md"
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROGRAMS = (
    "hpcq mpirun srun sbatch squeue scontrol tail git module pip python python3 h5ls h5dump "
    "./jobs/quickstart ./tests/run"
).split()


@dataclass(frozen=True)
class Block:
    """A block of code: the chapter it stands in, its language ("" if it has none), its text."""

    chapter: str
    kind: str
    text: str

    @property
    def commands(self):
        """Its commands without comments and prompts, each on one line; none if it has none."""
        lines = re.sub(r"\s*\\\n\s*", " ", self.text).splitlines()
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        lines = [re.sub(r"(^|\s+)#.*", "", line) for line in prompted or lines]
        lines = [line for line in lines if line]
        shell = self.kind == "bash" or (self.kind == "" and lines and _program(lines[0]))
        return lines if shell else []


def _program(line):
    """Return whether a line begins as a command does, with variables before it, perhaps."""
    word = next((word for word in line.split() if "=" not in word), "")
    return word in _PROGRAMS


def chapters(text=None):
    """Return the text of every chapter by its title."""
    text = README.read_text() if text is None else text
    # A heading within a block of code is a comment.
    hidden = _FENCED.sub(lambda found: re.sub(r"^#", " ", found[0], flags=re.MULTILINE), text)
    starts = [(m.start(), m[1]) for m in re.finditer(r"^## (.*)$", hidden, re.MULTILINE)]
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return {title: text[start:end] for (start, title), end in zip(starts, ends, strict=True)}


def blocks(chapter=None, kind=None):
    """Return the blocks of code, of one chapter or language if it is given."""
    found = [
        Block(title, match[1], match[2])
        for title, text in chapters().items()
        for match in _FENCED.finditer(text)
    ]
    return [
        block for block in found if chapter in (None, block.chapter) and kind in (None, block.kind)
    ]


def inline(chapter=None):
    """Return the commands, with arguments, that stand within sentences."""
    found = []
    for title, text in chapters().items():
        if chapter in (None, title):
            codes = re.findall(r"`([^`]+)`", _FENCED.sub("", text))
            lines = [" ".join(code.split()) for code in codes]
            found += [line for line in lines if " " in line and _program(line)]
    return found


def in_sentences(program):
    """Return the commands in sentences that start a program; "hpcq report" only names one."""
    words = 3 if program == "hpcq" else 2
    return [
        line
        for line in dict.fromkeys(inline())
        if re.match(rf"(?:mpirun -n \d+ )?{program} ", line)
        and len(line[line.index(program) :].split()) >= words
        and line not in benchmarks()
    ]


def benchmarks():
    """Return the commands that measure."""
    lines = [line for block in blocks() for line in block.commands]
    return [line for line in dict.fromkeys(lines + inline()) if " hpcq bench " in line]


def hdf5_tools():
    """Return the commands that look into a checkpoint with HDF5's own tools."""
    return [line for block in blocks() for line in block.commands if line.startswith("h5")]


def slurm():
    """Return the title of the chapter on Slurm."""
    return next(title for title in chapters() if "Slurm" in title)


def begin(part):
    return f"<!-- {part}, by tests/support/readme.py: begin -->\n"


def end(part):
    return f"<!-- {part}: end -->\n"


def slug(heading):
    """An anchor as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def contents(text):
    """Return links to the chapters."""
    return " ·\n".join(f"[{title}](#{slug(title)})" for title in chapters(text))


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
