"""The README.md pages: their blocks of code, the commands in them, and their generated parts.

``python tests/support/readme.py`` writes the generated parts anew. A part stands between

    <!-- WHAT, by tests/support/readme.py: begin -->
    <!-- end -->

where WHAT is a name in `PARTS`, or "file PATH": that file in full.
"""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from hpcq.job import choices, library
from hpcq.job.reference import reference_markdown

ROOT = Path(__file__).resolve().parents[2]
FRONT, SLURM = "README.md", "slurm/README.md"
PACKAGE = Path(choices.__file__).parents[1]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_GENERATED = re.compile(
    r"(<!-- ([^>]+), by tests/support/readme\.py: begin -->\n).*?(<!-- end -->\n)", re.DOTALL
)
_PROGRAMS = (
    "hpcq mpirun srun sbatch squeue scontrol tail git module pip python python3 pdoc h5ls h5dump "
    "./jobs/quickstart ./tests/run tests/run"
).split()


def pages():
    """Return the text of every page by its path, the front page first.

    The package's links to jobs/ and slurm/ are not followed.
    """
    found = [path for folder in ("hpcq", "jobs", "slurm", "tests") for path in _below(folder)]
    return {name: (ROOT / name).read_text() for name in (FRONT, *found)}


def _below(folder):
    return sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("README.md"))


@dataclass(frozen=True)
class Block:
    """A block of code: the page it stands on, its language ("" if it has none), its text."""

    page: str
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
    """Return whether a line begins as a command does, perhaps after assignments."""
    word = next((word for word in line.split() if "=" not in word), "")
    return word in _PROGRAMS


def blocks(page=None, kind=None):
    """Return the blocks of code, of one page or language if it is given."""
    found = [
        Block(name, match[1], match[2])
        for name, text in pages().items()
        for match in _FENCED.finditer(text)
    ]
    return [block for block in found if page in (None, block.page) and kind in (None, block.kind)]


def inline(page=None):
    """Return the commands, with arguments, that stand within sentences."""
    found = []
    for name, text in pages().items():
        if page in (None, name):
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
    return [line for line in dict.fromkeys(lines + inline()) if re.search(r"\bhpcq bench ", line)]


def installs():
    """Return the commands of pip, but for those of a site's own libraries; see the Slurm page."""
    lines = [line for block in blocks() if block.page != SLURM for line in block.commands]
    return [line for line in dict.fromkeys(lines + in_sentences("pip")) if line.startswith("pip ")]


def hdf5_tools():
    """Return the commands that look into a checkpoint with HDF5's own tools."""
    return [line for block in blocks() for line in block.commands if line.startswith("h5")]


def table(page, heading):
    """Return the first cells of the tables under a heading of a page."""
    plain = _FENCED.sub("", pages()[page])
    _, _, rest = plain.partition(f"# {heading}\n")
    return re.findall(r"^\| (`.*?) \|", re.split(r"^#+ ", rest, flags=re.MULTILINE)[0], re.M)


def slug(heading):
    """An anchor as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(text):
    """Return the anchors of a page's headings."""
    return {slug(title) for title in re.findall(r"^#+ (.*)$", _FENCED.sub("", text), re.M)}


def links(text):
    """Return what a page links to, and the pictures that it has."""
    return re.findall(r"\]\(([^)]*)\)", _FENCED.sub("", text))


def _described(folder, names):
    """Return a table of rules or policies: what their modules' docstrings say."""
    lines = ["| name | meaning | details and source |", "|---|---|---|"]
    for name in names:
        text = ast.get_docstring(ast.parse((PACKAGE / folder / f"{name}.py").read_text()))
        title, *paragraphs = text.split("\n\n")
        formulas = [part for part in paragraphs if part.startswith("    ")]
        rest = " ".join(" ".join(part.split()) for part in paragraphs if part not in formulas)
        codes = [
            f"`{' '.join(line.split())}`" for part in formulas for line in part.strip().split("\n")
        ]
        meaning = title.partition(": ")[2] or title
        meaning = "<br>".join([meaning[0].upper() + meaning[1:], *codes])
        cells = (f"[`{name}`]({Path(folder).name}/{name}.py)", meaning, rest)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _jobs():
    """Return a table of the job files that hpcq brings: what stands at the top of each."""
    lines = ["| job | what it learns, what is known of it, and how long it takes |", "|---|---|"]
    for name in library.names():
        text = (library.FOLDER / f"{name}.toml").read_text()
        comment = re.match(r"(?:# .*\n)+", text)[0].replace("\n#", "").removeprefix("# ").strip()
        lines.append(f"| [{name}]({name}.toml) | {comment} |")
    return "\n".join(lines)


PARTS = {
    "keys": reference_markdown,
    "jobs": _jobs,
    "rules": functools.partial(_described, "learning/rules", choices.RULES),
    "policies": functools.partial(_described, "learning/policies", choices.POLICIES),
}


def _part(what):
    word, _, path = what.partition(" ")
    if word != "file":
        return PARTS[what]()
    return f"```python\n{(PACKAGE.parent / path).read_text()}```"


def renewed(text):
    """Return a page with its generated parts as they are now."""
    return _GENERATED.sub(lambda found: f"{found[1]}\n{_part(found[2])}\n\n{found[3]}", text)


if __name__ == "__main__":
    for name, text in pages().items():
        (ROOT / name).write_text(renewed(text))
