"""What the commands say of a file, against what plain h5py and plain Python find in it."""

import csv
import json
import re
import shutil
import subprocess
import sys

import forged
import h5py
import make_job
import numpy as np
import pytest
import rules
import trained
from click import ClickException
from click.testing import CliRunner
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from hpcq.checkpoint import reader
from hpcq.cli import hpcq as cli
from hpcq.errors import CheckpointError, DependencyError, HpcqError, JobError, StorageError
from hpcq.spaces.codec import Codec, describe
from hpcq.view import difference as differences
from hpcq.view import inspect as inspection
from hpcq.view.evaluate import evaluate
from hpcq.view.export import export
from hpcq.view.policy import Policy
from hpcq.view.present import row_text, summary_text
from hpcq.view.table import Table

VISITS = {"learning_rate": {"schedule": "visits", "exponent": 0.8}, "q_init": 0.25}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return two checkpoints of one run, and one of another seed."""
    directory = tmp_path_factory.mktemp("runs")
    first, other = (
        make_job.make(make_job.GARNET, learning=VISITS, run={"seed": seed}) for seed in (3, 4)
    )
    return (
        trained.checkpoint(first, directory / "first", 3),
        trained.checkpoint(first, directory / "first", 40),
        trained.checkpoint(other, directory / "other", 3),
    )


@pytest.fixture(scope="module")
def blackjack(tmp_path_factory):
    job = make_job.make({"id": "hpcq/Blackjack-v0", "count": 50})
    return trained.checkpoint(job, tmp_path_factory.mktemp("blackjack"), 20)


def plain(path):
    """Return {key: (q, visits)} by plain h5py."""
    with h5py.File(path) as file:
        visits = file["table/visits"][:] if "table/visits" in file else None
        keys, q = file["table/key"][:].tolist(), file["table/q"][:]
    return {key: (q[i], None if visits is None else visits[i]) for i, key in enumerate(keys)}


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == code
    return done.output


def test_a_table_is_a_mapping_from_observation_to_values(files):
    truth = plain(files[0])
    with Table(files[0]) as table:
        assert 0 < len(table) == len(truth) < 50
        assert set(table) == set(truth)
        for state in range(50):
            assert (state in table) == (state in truth)
            if state in truth:
                assert np.array_equal(table[state], truth[state][0])
        assert 50 not in table
        assert "x" not in table
        with pytest.raises(KeyError):
            table[next(s for s in range(50) if s not in truth)]
        with pytest.raises(JobError, match=r"50 is no observation of hpcq/Garnet-v0: 50 is not in"):
            table[50]
        rows = table.arrays()
        assert {k: q.tolist() for k, q in zip(rows.keys.tolist(), rows.q, strict=True)} == {
            key: q.tolist() for key, (q, _) in truth.items()
        }


def test_small_pieces_and_large_ones_are_the_same_rows(files, monkeypatch):
    with Table(files[1]) as table:
        whole = table.arrays()
        monkeypatch.setattr(reader, "PIECE_BYTES", 7 * 24)
        assert len(list(table.pieces())) > 5
        for one, other in zip(table.arrays(), whole, strict=True):
            assert np.array_equal(one, other)
        assert table.rows(0, 0).q.shape == (0, 3)


def test_tuples_are_observations(blackjack):
    truth = plain(blackjack)
    with Table(blackjack) as table:
        for hand in ((14, 10, 0, 0), [20, 1, 1, 1]):
            key = ((hand[0] * 11 + hand[1]) * 2 + hand[2]) * 2 + hand[3]
            assert (hand in table) == (key in truth)
            assert hand not in table or np.array_equal(table[hand], truth[key][0])
        assert all(isinstance(observation, tuple) for observation in table)


def tables_of(rule):
    return rules.traits(make_job.make(make_job.GARNET, learning=rules.learning(rule)))["tables"]


@pytest.mark.parametrize("rule", [name for name in rules.RULES if tables_of(name) > 1])
def test_views_of_several_tables_are_of_their_combination(rule, tmp_path):
    """Of what the policy acts on; how tables combine is in the header."""
    job = make_job.make(make_job.GARNET, learning=rules.learning(rule, **VISITS))
    path = trained.checkpoint(job, tmp_path / rule, 40)
    other = trained.checkpoint(job, tmp_path / rule, 60)
    with h5py.File(path) as file, Table(path) as table:
        assert file["table/q"].shape[1] == tables_of(rule) == table.header.tables
        combine = getattr(np, table.header.combine)
        q = combine(file["table/q"][:], axis=1).astype(np.float64)
        visits = file["table/visits"][:].sum(axis=1)
        keys = file["table/key"][:]
        assert np.array_equal(table.arrays().q, q)
        assert np.array_equal(table.arrays().visits, visits)
        policy = Policy(path)
        for key, row in zip(keys.tolist(), q, strict=True):
            assert policy(key) == np.argmax(row)
            assert np.array_equal(policy.values(key), row)
    seen, found = Table(path).find_all(keys)
    assert seen.all()
    assert np.array_equal(found, q)
    assert inspection.query(path, [int(keys[0])])[0]["q"] == q[0].tolist()
    summary = inspection.inspect(path, whole=True)
    assert summary["values"]["100%"] == q.max()
    assert summary["updates"] == visits.sum()
    assert (summary["tables"], summary["combine"]) == (tables_of(rule), table.header.combine)
    assert f"{tables_of(rule)} tables; their {table.header.combine}" in summary_text(summary)
    assert export(path, tmp_path / "table.npz") == len(keys)
    with np.load(tmp_path / "table.npz") as exported:
        assert np.array_equal(exported["q"], q)
        assert np.array_equal(exported["action"], np.argmax(q, axis=1))
    assert differences.difference(path, path)["same"]
    assert not differences.difference(path, other)["same"]
    assert evaluate(path, episodes=3)["episodes"] == 3


def test_a_run_directory_stands_for_its_newest_checkpoint(files, tmp_path):
    with Table(files[0].parent) as table:
        assert table.path == files[1]
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Table(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        Table(tmp_path / "x.h5")


def test_inspect_finds_the_extremes(files):
    truth = plain(files[1])
    values = {key: q.max() for key, (q, _) in truth.items()}
    visits = {key: int(n.sum()) for key, (_, n) in truth.items()}
    found = json.loads(run("inspect", files[1], "--json", "--top", 2))
    assert found["states"] == found["looked_at"] == len(truth)
    assert found["updates"] == sum(visits.values())
    for name, truth_of, sign in (
        ("largest", values, -1),
        ("smallest", values, 1),
        ("most_visited", visits, -1),
    ):
        expected = sorted(truth_of.values(), key=lambda v: sign * v)[:2]
        assert [truth_of[row["observation"]] for row in found[name]] == expected
    assert found["values"]["0%"] == min(values.values())
    assert found["visits"]["100%"] == max(visits.values())
    middle = found["values"]["50%"]
    assert abs(sum(v < middle for v in values.values()) - len(values) / 2) <= 1


def test_a_sample_is_bounded_and_says_so(files, monkeypatch):
    monkeypatch.setattr(inspection, "SAMPLE_BYTES", 10 * 36)
    total = sum(int(n.sum()) for _, n in plain(files[1]).values())
    found = inspection.inspect(files[1])
    assert found["looked_at"] == 10
    assert found["updates"] == pytest.approx(total, rel=0.5)
    assert "of 10 states, a random sample" in run("inspect", files[1])
    assert inspection.inspect(files[1], whole=True)["updates"] == total


def test_query_shows_rows(files, blackjack):
    truth = plain(files[1])
    a, b = list(truth)[:2]
    found = [json.loads(line) for line in run("query", files[1], a, b, "--json").splitlines()]
    for state, row in zip((a, b), found, strict=True):
        assert row["q"] == truth[state][0].tolist()
        assert row["visits"] == truth[state][1].tolist()
        assert row["greedy"] == np.flatnonzero(truth[state][0] == truth[state][0].max()).tolist()
    assert run("inspect", files[1], "--row", a) == run("query", files[1], a)
    assert run("inspect", files[1], "--key", a) == run("query", files[1], a)
    key = next(iter(plain(blackjack)))
    hand = [key // 44, key // 4 % 11, key // 2 % 2, key % 2]
    assert json.loads(run("query", blackjack, json.dumps(hand), "--json"))["key"] == key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["50"], "50 is no observation of hpcq/Garnet-v0: 50 is not in 0 ... 49"),
        (["[1]"], r"\[1\] is no observation"),
        (["-1"], "-1 is no observation of hpcq/Garnet-v0: -1 is not in 0 ... 49"),
        (["left"], "'left' is not JSON; expected an observation such as"),
    ],
)
def test_what_is_no_observation_is_named(files, arguments, message, capsys):
    try:
        assert cli.main(["query", str(files[0]), *arguments], standalone_mode=False) == 64
        said = capsys.readouterr().err
    except (ClickException, HpcqError) as error:
        said = str(error)
    assert re.search(message, said)


def test_what_is_known_is_shown_beside_what_is_not(files, capsys):
    known = sorted(plain(files[0]))[:2]
    missing = next(s for s in range(50) if s not in plain(files[0]))
    arguments = ["query", "--json", str(files[0]), *map(str, [known[0], missing, 50, known[1]])]
    assert cli.main(arguments, standalone_mode=False) == 64
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["observation"] for row in rows] == [known[0], missing, 50, known[1]]
    assert ["q" in row for row in rows] == [True, True, False, True]
    assert "never updated" in rows[1]["note"]
    assert "50 is not in 0 ... 49" in rows[2]["error"]
    assert [line[:6] for line in err.splitlines()] == ["hpcq: "]


def test_what_was_never_updated_is_said(files):
    missing = next(s for s in range(50) if s not in plain(files[0]))
    for found in (*inspection.query(files[0], [missing]), inspection.query_key(files[0], missing)):
        assert set(found["q"]) == {0.25}
        assert found["observation"] == missing
        assert len(found["greedy"]) == len(found["q"])
        assert "never updated" in found["note"]
    text = run("query", files[0], missing)
    assert "never updated: its values are learning.q_init = 0.25" in text
    with pytest.raises(JobError, match=r"key 50 is not in 0 ... 49"):
        inspection.query_key(files[0], 50)


@pytest.mark.parametrize("piece", [24, 5 * 24, 1 << 20])
def test_diff_is_what_dictionaries_say(files, piece, monkeypatch):
    monkeypatch.setattr(reader, "PIECE_BYTES", piece)
    for one, other in ((0, 1), (1, 0), (0, 2), (1, 1)):
        a, b = plain(files[one]), plain(files[other])
        both = a.keys() & b.keys()
        gaps = {key: np.abs(a[key][0] - b[key][0]) for key in both}
        found = differences.difference(files[one], files[other], top=2)
        assert found["only"] == [len(a.keys() - b.keys()), len(b.keys() - a.keys())]
        assert found["common"] == len(both)
        assert found["equal"] == sum(not gap.any() for gap in gaps.values())
        assert found["same"] == (one == other)
        assert found["largest"] == max(gap.max() for gap in gaps.values())
        assert found["mean"] == pytest.approx(np.mean(list(gaps.values())))
        assert found["policy_changes"] == sum(
            a[key][0].argmax() != b[key][0].argmax() for key in both
        )
        shown = [gaps[mine["key"]].max() for mine, _ in found["largest_rows"]]
        assert shown == sorted((g.max() for g in gaps.values()), reverse=True)[: len(shown)]
        assert len(shown) == (0 if one == other else 2)
        for side, mine, others in ((0, a, b), (1, b, a)):
            assert all(r["key"] in mine.keys() - others for r in found["only_rows"][side])


def test_diff_of_the_same_and_of_what_cannot_be_compared(files, blackjack):
    assert "hold the same Q-values" in run("diff", files[0], files[0])
    assert "run.seed is 3 here and 4 there" in run("diff", files[0], files[2])
    with pytest.raises(CheckpointError, match="cannot be compared: observation is"):
        differences.difference(files[0], blackjack)


def rows_of(path):
    """Return an exported file as a list of dicts."""
    if path.suffix == ".csv":
        with path.open() as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    found = []
    with np.load(path) as file:
        for i in range(file["key"].size):
            row = {}
            for name in file.files:
                value = file[name][i]
                row |= (
                    {f"{name}[{a}]": v for a, v in enumerate(value)}
                    if value.ndim
                    else {name: value}
                )
            found.append(row)
    return found


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
@pytest.mark.parametrize("piece", [50, 1 << 20])
def test_every_export_holds_every_row(files, suffix, piece, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "PIECE_BYTES", piece)
    truth = plain(files[1])
    assert export(files[1], tmp_path / f"x{suffix}") == len(truth)
    rows = rows_of(tmp_path / f"x{suffix}")
    assert [row["key"] for row in rows] == list(truth)
    for row in rows:
        q, visits = truth[int(row["key"])]
        assert row["observation"] == row["key"]
        assert [row[f"q[{a}]"] for a in range(3)] == q.tolist()
        assert [row[f"visits[{a}]"] for a in range(3)] == visits.tolist()
        assert (row["action"], row["value"]) == (q.argmax(), q.max())
    assert list(tmp_path.iterdir()) == [tmp_path / f"x{suffix}"]


def test_a_policy_has_decoded_observations(blackjack, tmp_path):
    run("export", blackjack, tmp_path / "x.csv", "--what", "policy")
    rows = rows_of(tmp_path / "x.csv")
    assert list(rows[0]) == ["key", *(f"observation[{i}]" for i in range(4)), "action", "value"]
    for row in rows:
        player, dealer, ace, first = (row[f"observation[{i}]"] for i in range(4))
        assert ((player * 11 + dealer) * 2 + ace) * 2 + first == row["key"]


def test_an_export_that_fails_leaves_nothing(files, tmp_path, monkeypatch):
    with pytest.raises(JobError, match=r"expected a name that ends in .npz, .csv, .parquet"):
        export(files[0], tmp_path / "x.xls")
    with pytest.raises(StorageError, match="No such file"):
        export(files[0], tmp_path / "nowhere" / "x.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyError, match=r"pip install 'hpcq\[parquet\]'"):
        export(files[0], tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


SPACES = [
    spaces.Discrete(7, start=-3),
    spaces.MultiDiscrete([[2, 3], [1, 2]], start=[[0, 1], [5, -1]]),
    spaces.Tuple([spaces.Discrete(3), spaces.Tuple([spaces.MultiDiscrete([2, 2])])]),
    spaces.Dict({"b": spaces.MultiBinary([2, 2]), "a": spaces.Discrete(3)}),
    spaces.Box(np.array([-2, 5]), np.array([1, 7]), dtype=np.int16),
    spaces.Box(0, 2**64 - 1, (1,), np.uint64),
    spaces.Discrete(2**62, start=-(2**62)),
]


def numbers(observation):
    """Yield every number of an observation, in the order of its places."""
    if isinstance(observation, dict):
        observation = tuple(observation[name] for name in sorted(observation))
    if isinstance(observation, tuple):
        for part in observation:
            yield from numbers(part)
    else:
        yield from np.asarray(observation).ravel().tolist()


@given(st.sampled_from(SPACES), st.data())
def test_columns_are_decoded_observations(space, data):
    codec = Codec(describe(space))
    keys = data.draw(st.lists(st.integers(0, codec.size - 1), min_size=1, max_size=5))
    columns = codec.columns(np.array(keys, np.uint64))
    for i, key in enumerate(keys):
        assert [c[i].item() for c in columns.values()] == list(numbers(codec.decode(key)))


def test_columns_are_named_by_place():
    codec = Codec(describe(SPACES[3]))
    assert list(codec.columns(np.zeros(1, np.uint64))) == [
        "['a']",
        *(f"['b'][{i}, {j}]" for i in range(2) for j in range(2)),
    ]
    digest = Codec(describe(SPACES[3], codec="digest"))
    assert digest.columns(np.array([5], np.uint64)) == {}


HOSTILE = "\x1b[2J\x1b[H\r\nhpcq: all is well\x07\u202e\x9b1m"


def shown(text):
    """Check that text of a file cannot act on a terminal, nor forge a line."""
    assert not re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert not re.findall("^hpcq: all is well", text, re.MULTILINE)
    return text


def test_text_of_a_file_is_shown_escaped(files, tmp_path):
    hostile, other = (shutil.copy(file, tmp_path / file.name) for file in files[:2])
    with Table(hostile) as table:
        job = table.job
    job["environment"]["id"] = HOSTILE
    job["learning"]["rule"] = f"q_learning{HOSTILE}"
    versions = {"numpy": HOSTILE, HOSTILE: "1"}
    forged.header(hostile, environment=HOSTILE, versions=versions, job=json.dumps(job))
    text = shown(run("inspect", hostile))
    assert r"\x1b[2J" in text
    shown(run("inspect", hostile, "--json"))
    for command in (["diff", hostile, other], ["eval", hostile], ["query", hostile, "[1]"]):
        done = subprocess.run(
            [sys.executable, "-m", "hpcq", *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
        )
        shown(done.stdout + done.stderr)
        assert done.returncode in (64, 65), done.stderr
        assert "Traceback" not in done.stderr


def test_an_observation_that_is_text_is_shown_escaped(tmp_path):
    letters = "a\x1b"
    row = {"observation": letters * 3, "q": [1.0], "greedy": [letters]}
    assert r"\x1b" in shown(row_text(row))


def test_a_damaged_attribute_is_shown_escaped(files, tmp_path):
    path = shutil.copy(files[0], tmp_path / "file.h5")
    with h5py.File(path, "r+") as file:
        file.attrs[HOSTILE] = 1
    with pytest.raises(CheckpointError) as error:
        inspection.inspect(path)
    assert r"\x1b[2J" in shown(str(error.value))


def test_json_has_no_infinite_numbers(files, tmp_path):
    hostile, other = (shutil.copy(file, tmp_path / file.name) for file in files[:2])
    forged.values(hostile, [np.inf, np.nan, -np.inf, 1e308])
    forged.values(other, [-1e308] * 4)
    for command in (
        ["inspect", hostile],
        ["diff", hostile, other],
        ["inspect", hostile, "--whole"],
    ):
        found = json.loads(run(*command, "--json"), parse_constant=pytest.fail)
    assert found["not_finite"] == 3
    keys = [row["key"] for row in found["smallest"]]
    assert len(keys) == len(set(keys)) == 3
    assert "not finite: 3" in run("inspect", hostile)
    run("diff", hostile, other)


def test_the_newest_of_a_directory_is_that_of_the_largest_step(files, tmp_path):
    for file in files[:2]:
        shutil.copy(file, tmp_path / file.name)
    old, new = sorted(tmp_path.iterdir())
    old = old.rename(tmp_path / "ckpt-000000000999999.h5")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hpcq",
            "verify",
            str(tmp_path),
            str(old),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{new}: whole, step 480, digest")
    assert "step 36 (not that of its name)" in second
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("hpcq: warning: ")
    assert "ckpt-000000000999999.h5 holds step 36" in warning
