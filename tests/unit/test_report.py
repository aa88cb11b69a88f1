"""Pictures and pages of a run. That they are beautiful is for people to see."""

import base64
import contextlib
import html.parser
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree

import forged
import make_job
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from mpi4py import MPI
from soaked import soak
from trained import checkpoint as trained_checkpoint

from hpcq.cli import hpcq as cli
from hpcq.errors import CheckpointError, DependencyError, ExitCode
from hpcq.run import run_directory
from hpcq.run.start_or_resume import to_end, train
from hpcq.view import distribution, grids, maps, report
from hpcq.view.table import Table

LAKE = {"id": "FrozenLake8x8-v1", "count": 64}
GRID = {
    "id": "hpcq/Gridworld-v0",
    "kwargs": {"width": 7, "height": 5, "walls": 0.3},
    "count": 64,
    "max_episode_steps": 50,
}
VISITS = {"learning_rate": {"schedule": "visits", "exponent": 0.8}}


def trained(directory, environment, learning=None, steps=200_000):
    run = {"steps": steps, "directory": str(directory), "report_every": 0.05}
    job = make_job.make(environment, learning=learning, run=run, name="pages")
    assert to_end(train(job, MPI.COMM_SELF, lambda text: None, [])) == ExitCode.DONE
    return directory


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("lake"), LAKE, VISITS)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    learning = {"gamma": 1.0, "learning_rate": 1.0, "q_init": -1000.0}
    return trained(tmp_path_factory.mktemp("grid"), GRID, learning)


class Page(html.parser.HTMLParser):
    """Collects the pictures of a page, and whatever it would load from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.images, self.foreign, self.open = {}, [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in ("meta", "link", "img", "!doctype"):
            self.open.append(tag)
        for name in ("src", "href", "data", "srcset"):
            if not found.get(name, "data:").startswith("data:"):
                self.foreign.append(found[name])
        if tag == "img":
            kind, _, data = found["src"].partition(",")
            assert kind == "data:image/svg+xml;base64"
            self.images[found["alt"]] = base64.b64decode(data).decode()
        assert tag != "script"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_holds_every_picture_and_nothing_from_elsewhere(lake):
    done = CliRunner().invoke(cli, ["report", str(lake)], standalone_mode=False)
    assert done.exception is None
    text = (lake / "report.html").read_text()
    page = Page(text)
    assert page.foreign == []
    assert list(page.images) == [
        "Learning",
        "Values and policy",
        "States",
        "Progress",
        "Where the time goes",
        "Balance over ranks",
    ]
    for image in page.images.values():
        assert ElementTree.fromstring(image).tag.endswith("svg")
        assert not re.findall(r'href="(?!#|data:)', image)
    summary = json.loads((lake / "summary.json").read_text())
    assert summary["digest"] in text
    assert "id = &quot;FrozenLake8x8-v1&quot;" in text
    assert "optimum, exact" in page.images["Learning"]
    assert "Greedy values of" in page.images["States"]
    assert "largest Q-value" in page.images["Values and policy"]


def test_pictures_become_files(lake, tmp_path):
    done = CliRunner().invoke(
        cli, ["plot", str(lake), "--output", str(tmp_path / "p")], standalone_mode=False
    )
    assert done.exception is None
    names = {"learning", "maps", "distribution", "progress", "phases", "balance"}
    assert {path.name for path in (tmp_path / "p").iterdir()} == {f"{n}.png" for n in names}
    for line in done.output.splitlines():
        assert (tmp_path / "p" / line.rpartition("/")[2]).read_bytes().startswith(b"\x89PNG")


def test_a_run_that_has_told_little_is_no_error(lake, tmp_path):
    """Before its first report and checkpoint; then with a line from which keys are missing."""
    shutil.copy(lake / run_directory.JOB, tmp_path)
    page = Page(report.report(tmp_path).read_text())
    assert page.images == {}
    (tmp_path / run_directory.METRICS).write_text(
        '{"step": 100, "mean_return": null, "states": 3}\n'
    )
    text = report.report(tmp_path).read_text()
    assert list(Page(text).images) == ["Progress"]
    assert "not finished" in text


STRANGE = {
    "infinite": [np.inf, -np.inf, np.inf],
    "nan": [np.nan] * 3,
    "huge": [1e308, -1e308, 1.7e308],
    "all kinds": [np.inf, np.nan, -1e308, 1e101, -np.inf],
    "nothing else": [np.nan] * 64,
    "huge but drawn": [1e99, -1e99],
    "all but equal": [1e17 + 16 * i for i in range(64)],
    "tiny": [5e-324] * 64,
}


@pytest.mark.parametrize("kind", ["all kinds", "all but equal", *soak(*STRANGE)])
def test_a_table_that_has_diverged_is_drawn_where_it_can_be(lake, tmp_path, kind):
    directory = shutil.copytree(lake, tmp_path / "run")
    path = next(directory.glob("ckpt-*.h5"))
    with Table(path) as table:
        rows = len(table)
    values = STRANGE[kind][:rows]
    forged.values(path, values)
    text = report.report(directory).read_text()
    page = Page(text)
    lost = sum(not abs(value) < 1e100 for value in values)
    assert (f"{lost:,} not finite or beyond" in page.images["States"]) == (lost > 0)
    assert ("Values and policy" in page.images) == (lost < rows)
    if 0 < lost < rows:
        assert f"{lost:,} not finite or beyond" in page.images["Values and policy"]
    not_finite = sum(not np.isfinite(value) for value in values)
    assert (f"that are not finite: {not_finite:,}" in text) == (not_finite > 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"mean_return": 1e308, "steps_per_second": 1e308},
        {"mean_return": float("inf"), "evaluation_return": float("nan"), "epsilon": float("inf")},
        {"ns_step": None, "busy_ns_mean": 0, "rows_mean": 0, "messages_max": float("inf")},
        {f"ns_{name}": 0 for name in ("step", "pack", "exchange", "apply", "answer", "receive")},
        {"steps_per_second": 0, "states": 1 << 63, "seconds": float("nan")},
        {"step": 10**18},
        {"step": -5, "epsilon": -1.0},
    ],
)
@pytest.mark.parametrize(
    "summary", [{"greedy_return": 1e308, "seconds": "x", "ranks": []}, *soak([], 3)]
)
def test_strange_metrics_are_drawn_where_they_can_be(lake, tmp_path, changes, summary):
    directory = shutil.copytree(lake, tmp_path / "run")
    lines = [json.loads(line) for line in (lake / "metrics.jsonl").read_text().splitlines()]
    strange = [*({**line, **changes} for line in lines), {"step": 7, **changes}]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in strange))
    (directory / "summary.json").write_text(json.dumps(summary))
    with contextlib.nullcontext() if isinstance(summary, dict) else pytest.warns(match="left out"):
        Page(report.report(directory).read_text())


@pytest.mark.parametrize(("waited", "said"), [(4000, True), (20, False), (None, False)])
def test_a_run_whose_ranks_mostly_waited_says_what_to_try(lake, tmp_path, waited, said):
    directory = shutil.copytree(lake, tmp_path / "run")
    lines = [json.loads(line) for line in (lake / "metrics.jsonl").read_text().splitlines()]
    slow = {"ns_exchange": waited, "busy_ns_mean": 100}
    slowed = [{**line, **slow, "seconds": 9.0 * (n + 1)} for n, line in enumerate(lines)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in slowed))
    text = report.report(directory).read_text()
    assert ("ranks waited for each other for 98% of the time" in text) == said


def test_what_was_wrong_in_the_metrics_is_said(lake, tmp_path):
    directory = shutil.copytree(lake, tmp_path / "run")
    with (directory / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\n")
    lines = (directory / "metrics.jsonl").read_bytes().count(b"\n")
    with pytest.warns(match=f"line {lines} is left out: not JSON"):
        report.report(directory)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run"):
        report.report(tmp_path)
    (tmp_path / run_directory.JOB).write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        report.plot(tmp_path)


def test_without_matplotlib_one_message_says_what_to_do(lake, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyError, match=r"pip install 'hpcq\[plot\]'") as error:
        report.report(lake)
    assert error.value.exit_code == 69


def header_of(directory):
    with Table(directory) as table:
        return table.header


def followed(grid, transitions):
    """Check that every arrow of a map points to where the action leads, walls and slips apart."""
    rows, columns = grid.shape
    for row in range(rows):
        for column in range(columns):
            for action, move in grid.moves.items():
                found = transitions(int(grid.keys[row, column]), action)
                if found is None or isinstance(move, str):
                    continue
                i = min(max(row + move[0], 0), rows - 1)
                j = min(max(column + move[1], 0), columns - 1)
                assert found == int(grid.keys[i, j]), (row, column, action)


def test_the_arrows_of_frozen_lake_lead_where_gymnasium_leads(lake):
    (found,) = grids.grids_of(header_of(lake))
    env = FrozenLakeEnv(map_name="8x8", is_slippery=False)

    def transitions(state, action):
        ((_, to, _, _),) = env.P[state][action]
        return None if env.desc.ravel()[state] in b"GH" else to

    followed(found, transitions)
    letters = [b"SFHG".find(cell) for cell in env.desc.ravel()]
    marked = {(i, j): "SFHG"[letters[8 * i + j]] for i in range(8) for j in range(8)}
    assert found.marks == {place: m for place, m in marked.items() if m != "F"}


def grid_of(environment):
    job = {"environment": {"kwargs": {}, **environment}}

    class Header:
        observation = {"kind": "Discrete", "n": environment["n"]}  # noqa: RUF012

    Header.job = json.dumps(job)
    return grids.grids_of(Header)


def test_the_arrows_of_the_cliff_lead_where_gymnasium_leads():
    (found,) = grid_of({"id": "CliffWalking-v1", "n": 48})
    env = CliffWalkingEnv()

    def transitions(state, action):
        ((_, to, reward, _),) = env.P[state][action]
        return None if reward == -100 else to

    followed(found, transitions)


def test_the_arrows_of_the_taxi_lead_where_gymnasium_leads():
    env = TaxiEnv()
    maps = grid_of({"id": "Taxi-v4", "n": 500})
    assert len(maps) == 4
    for destination, found in enumerate(maps):
        walls = set()

        def transitions(state, action, walls=walls, found=found, destination=destination):
            row, column, passenger, to = env.decode(state)
            assert (passenger, to) == (4, destination)
            if action > 3:
                return None
            ((_, after, _, _),) = env.P[state][action]
            if after == state and action == 2 and column < 4:
                walls.add((row, column))
            if after == state and action in (2, 3):
                return None
            return after

        followed(found, transitions)
        assert found.walls == walls
        for letter, place in found.marks.items():
            assert letter == (env.locs["RGYB".index(place)])


def test_the_map_of_a_gridworld_is_the_way_home(grid):
    """Values are minus the length of the shortest way; arrows lead to a cell that is nearer."""
    (found,) = grids.grids_of(header_of(grid))
    with Table(grid) as table:
        seen, q = table.find_all(found.keys.ravel())
        keys = found.keys.ravel().tolist()
        for key, here, row in zip(keys, seen, q, strict=True):
            assert here == (table.find(key) is not None)
            if here:
                assert np.array_equal(row, table.find(key).q[0])
                assert np.isfinite(row).all()
            else:
                assert np.isnan(row).all()
    value = np.where(seen, q.max(axis=1), 0).reshape(5, 7)
    for i, j in np.argwhere(seen.reshape(5, 7)):
        best = int(q.reshape(5, 7, 4)[i, j].argmax())
        down, right = found.moves[best]
        assert value[i + down, j + right] == value[i, j] + 1


@pytest.mark.parametrize("q_init", [0.0, 2.0, -1000.0])
def test_what_was_visited_has_a_colour_whatever_it_was_believed_to_be_worth(tmp_path, q_init):
    """FrozenLake by chance: nearly all updates are by 0, and nothing gets near the goal."""
    job = make_job.make({"id": "FrozenLake8x8-v1", "count": 4}, learning={"q_init": q_init})
    with Table(trained_checkpoint(job, tmp_path, 20)) as table:
        figure = maps.maps(table, grids.grids_of(table.header))
        shown = figure.axes[0].images[0].get_array()
        visited = {divmod(int(observation), 8) for observation in table}
    assert 2 <= len(visited) < 40
    coloured = np.isfinite(np.ma.filled(shown, np.nan))
    assert {tuple(place) for place in np.argwhere(coloured).tolist()} == visited


def test_a_few_values_far_away_leave_the_colours_to_the_others():
    near = np.linspace(0, 1, 99)
    assert maps.colour_range(near) == (0, 1, "neither")
    low, high, beyond = maps.colour_range(np.append(near, -1e5))
    assert (high, beyond) == (1, "min")
    assert -4 < low < 0
    assert maps.colour_range(np.append(near, 1e5))[2] == "max"
    assert maps.colour_range(np.array([3.0])) == (3, 3, "neither")


def test_whole_numbers_have_a_bar_each():
    counts, edges = np.histogram(
        values := np.array([-3.0, -1, -1, 0]), distribution.bins_of(values)
    )
    assert counts.tolist() == [1, 0, 2, 1]
    assert edges.tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5]


def test_a_large_gridworld_shows_a_corner():
    kwargs = {"width": 10_000, "height": 1000}

    class Header:
        job = json.dumps({"environment": {"id": "hpcq/Gridworld-v0", "kwargs": kwargs}})

    (found,) = grids.grids_of(Header)
    assert found.shape == (300, 300)
    assert found.keys[2, 3] == 20_003
    assert "1000 x 10000, the 300 x 300 cells around the goal" in found.title


def test_other_problems_have_no_map(tmp_path):
    assert grid_of({"id": "hpcq/Garnet-v0", "n": 48}) == []
    assert grid_of({"id": "FrozenLake-v1", "n": 47, "kwargs": {"map_name": None}}) == []
