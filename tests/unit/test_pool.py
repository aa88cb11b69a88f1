import json

import make_job
import pytest

from hpcq.cluster.task import reason_of
from hpcq.errors import JobError
from hpcq.run import metrics_files
from hpcq.run.resumable import is_finished

TRACEBACK = "\n".join(["hpcq: rank 1: environment 3, tick 5", "Traceback", *map(str, range(20))])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step 1\nhpcq: run.steps = 0: too few\n", "hpcq: run.steps = 0: too few"),
        ("hpcq: warning: old\nhpcq: first\n  more\nhpcq: rank 1: next\n", "hpcq: first\n  more"),
        ("a\nb\n", "a\nb"),
        ("\n".join(map(str, range(30))), "\n".join(map(str, range(22, 30)))),
        ("", ""),
        (
            TRACEBACK,
            "\n".join([TRACEBACK.split("\n")[0], "...", *(str(i) for i in range(12, 20))]),
        ),
    ],
)
def test_the_reason_of_a_failure_is_its_first_message_or_the_last_lines(text, expected):
    assert reason_of(text) == expected


@pytest.mark.parametrize(
    ("content", "step"),
    [
        (b"", None),
        (b'{"step": 5}\n', 5),
        (b'{"step": 5}\n{"step": 7}\n{"st', 7),
        (b"[]\n" * 3, None),
        (b'{"step": 1, "x": 2.5}\n' * 20_000 + b'{"step": 9}\n', 9),
    ],
)
def test_the_newest_line_of_the_metrics(content, step, tmp_path):
    assert metrics_files.newest(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_bytes(content)
    line = metrics_files.newest(tmp_path)
    assert (line and line["step"]) == step


def test_a_run_is_finished_unless_the_job_extends_it(tmp_path):
    def job(**changes):
        stop = {key: changes.pop(key) for key in ("episodes",) if key in changes}
        run = {"directory": str(tmp_path / "run"), **changes}
        return make_job.make(make_job.GARNET, run=run, stop=stop)

    assert not is_finished(job())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "job.json").write_text(job().text())
    assert not is_finished(job())
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"steps": 1000}))
    assert is_finished(job())
    assert is_finished(job(report_every=3.0))
    assert not is_finished(job(steps=2000))
    assert not is_finished(job(episodes=5))
    with pytest.raises(JobError, match="holds the run of another job"):
        is_finished(job(seed=4))
