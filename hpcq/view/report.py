"""A run as plots in files, and as one self-contained HTML page: no network, no scripts."""

import base64
import html
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcq import disk
from hpcq._version import __version__
from hpcq.errors import StorageError
from hpcq.run import beside, waiting
from hpcq.view import curves, drawing, grids
from hpcq.view.distribution import distribution
from hpcq.view.inspect import inspect
from hpcq.view.maps import maps
from hpcq.view.present import summary_text
from hpcq.view.rundata import RunData, load_run
from hpcq.view.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0.5rem; }
p.sub { color: #666; margin-top: 0.2rem; } img { max-width: 100%; }
table { border-collapse: collapse; } td { padding: 0.15rem 1.2rem 0.15rem 0; vertical-align: top; }
td:first-child { color: #666; white-space: nowrap; } td { overflow-wrap: anywhere; }
pre { background: #f6f6f6; padding: 0.8rem 1rem; overflow-x: auto; font-size: 12.5px; }
p.note { color: #666; font-size: 0.9rem; margin: 0.2rem 0; }
"""

_SECTIONS = {
    "learning": ("Learning", "Training explores; evaluations and exact returns are of the greedy "
                 "policy. Returns are undiscounted."),
    "maps": ("Values and policy", "Colour: a state's largest Q-value; grey: never updated. "
             "Arrows: every greedy action."),
    "infos": ("Infos", "Means over episodes, of the last value in each and of the sum of its "
              "values."),
    "distribution": ("States", "Values are discounted."),
    "progress": ("Progress", ""),
    "phases": ("Where the time goes", "Measured on one tick of 17; exchange includes waiting for "
               "other ranks."),
    "balance": ("Balance over ranks", "Work: all phases but the exchange."),
}  # fmt: skip


def plots(run: RunData) -> Iterator[tuple[str, "Figure"]]:
    """Yield (name, figure) of all plots that a run has data for."""
    with ExitStack() as stack:
        stack.enter_context(drawing.styled())
        made: dict[str, Callable[[], Any]] = {
            "learning": lambda: curves.learning(run.lines, run.summary),
            "infos": lambda: curves.infos(run.lines, run.job.environment.info),
            "progress": lambda: curves.progress(run.lines),
            "phases": lambda: curves.phases(run.lines),
            "balance": lambda: curves.balance(run.lines),
        }
        if run.checkpoint is not None:
            table = stack.enter_context(Table(run.checkpoint))
            made["maps"] = lambda: maps(table, grids.grids_of(table.header))
            made["distribution"] = lambda: distribution(table)
        for name in _SECTIONS:
            figure = made[name]() if name in made else None
            if figure is not None:
                yield name, figure


def plot(directory: Path, output: Path | None = None) -> list[Path]:
    """Write the plots of a run as PNG files; return their names.

    Parameters
    ----------
    output
        folder; default: the run directory.
    """
    output = output or directory
    run, written = load_run(directory), []
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, figure in plots(run):
            written.append(output / f"{name}.png")
            png = io.BytesIO()
            figure.savefig(png, format="png", dpi=150)
            disk.write(written[-1], png.getvalue())
    except OSError as error:
        there = error.filename or output
        raise StorageError(f"{there}: cannot be written: {error.strerror}") from None
    return written


def report(directory: Path, output: Path | None = None) -> Path:
    """Write a run as one HTML page; return its name.

    Parameters
    ----------
    output
        file; default: report.html in the run directory.
    """
    output = output or directory / PAGE
    page = page_of(load_run(directory))
    try:
        disk.write_text(output, page)
    except OSError as error:
        there = error.filename or output
        raise StorageError(f"{there}: cannot be written: {error.strerror}") from None
    return output


def page_of(run: RunData) -> str:
    """Return the page."""
    parts = [_facts(run)]
    for name, figure in plots(run):
        title, note = _SECTIONS[name]
        parts.append(f"<h2>{title}</h2>")
        if note:
            parts.append(f'<p class="note">{note}</p>')
        if name == "phases" and (waited := waiting.note_of(run.lines)):
            parts.append(f"<p>{html.escape(waited)}</p>")
        parts.append(_image(figure, title))
    parts += ["<h2>Job</h2>", f"<pre>{html.escape(run.job.toml())}</pre>"]
    if run.checkpoint is not None:
        text = summary_text(inspect(run.checkpoint))
        parts += ["<h2>Newest checkpoint</h2>", f"<pre>{html.escape(text)}</pre>"]
    name = html.escape(run.job.name)
    state = "finished" if run.summary else "not finished"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<link rel="icon" href="data:,">\n'
        f"<title>{name}: hpcq</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{name}</h1>\n<p class="sub">{html.escape(run.job.environment.id)}, '
        f"{run.job.learning.rule}; {state}; hpcq {__version__}</p>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _image(figure: "Figure", title: str) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="{title}" src="data:image/svg+xml;base64,{data}">'


def _facts(run: RunData) -> str:
    """Return a table of the run's main numbers."""
    summary, last = run.summary or {}, run.lines[-1] if run.lines else {}
    # A line's own speed is that of its interval.
    mean = {"steps_per_second": last["step"] / last["seconds"]} if last.get("seconds") else {}
    known = {**last, **mean, **summary}
    rows = [
        ("steps", _number(known.get("steps", known.get("step")))),
        ("states seen", _number(known.get("states"))),
        ("time", _with(known.get("seconds"), "s")),
        ("speed", _with(known.get("steps_per_second"), "steps/s")),
        ("greedy policy, exact mean return", _number(known.get("greedy_return"))),
        ("optimum, exact mean return", _number(known.get("optimal_return"))),
        ("best evaluation", _number(known.get("best_return"))),
        *_solution(run),
        *_infos(run, summary),
        ("ranks", _number(known.get("ranks"))),
        ("digest", known.get("digest")),
        ("checkpoint", run.checkpoint),
    ]
    cells = (
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows
        if value is not None
    )
    return f"<table>{''.join(cells)}</table>"


def _solution(run: RunData) -> list[tuple[str, str | None]]:
    """Return how far the table is from the solution beside the run, as it is now."""
    if run.checkpoint is None:
        return []
    found = beside.distance(run.job, run.directory, run.checkpoint)
    if not isinstance(found, dict):
        return [("solution beside it", found)]
    return [
        ("solution beside it", found["solution"]),
        ("largest error of a value", _number(found["largest_error"])),
        ("largest loss of a greedy action", _number(found["largest_loss"])),
        ("states not learned", _number(found["not_learned"])),
    ]


def _infos(run: RunData, summary: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return the newest means of numbers in the environments' infos, of one episode."""
    newest: dict[str, Any] = {}
    for line in run.lines:
        newest |= {key: value for key, value in line.items() if value is not None}
    found = summary.get("infos")
    newest |= found if isinstance(found, dict) else {}
    return [
        (f"{key}{of}{how}", _number(newest.get(f"{prefix}info_{key}{ending}")))
        for key in run.job.environment.info
        for prefix, of in (("", " in training"), ("evaluation_", " in the last evaluation"))
        for ending, how in (("", ", last of an episode"), ("_sum", ", sum of an episode"))
    ]


def _number(value: Any) -> str | None:
    if not isinstance(value, int | float):
        return None
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _with(value: Any, unit: str) -> str | None:
    if not isinstance(value, int | float):
        return None
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
