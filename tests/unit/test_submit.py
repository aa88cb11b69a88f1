import difflib
import subprocess

import make_job
import pytest

from hpcq.cluster.submit import TEMPLATE, Request, fill_in, prepare, seconds
from hpcq.errors import JobError


@pytest.fixture
def file(tmp_path):
    return make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))


def changes(script):
    lines = difflib.ndiff(TEMPLATE.read_text().splitlines(), script.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_only_what_was_asked_for_differs_from_the_template(file):
    request = Request(nodes=2, ntasks=64, time="10:00", further=("--mem-per-cpu=4G", "--exclusive"))
    script = prepare(file, ("run.seed=7", "run.directory=my runs"), request).script
    assert changes(script) == [
        "- #SBATCH --job-name=hpcq",
        "+ #SBATCH --job-name=job",
        "- #SBATCH --nodes=1",
        "+ #SBATCH --nodes=2",
        "- #SBATCH --ntasks=4",
        "+ #SBATCH --ntasks=64",
        "- #SBATCH --time=04:00:00",
        "+ #SBATCH --time=10:00",
        "- #SBATCH --signal=B:USR1@120",
        "+ #SBATCH --signal=B:USR1@60",
        "+ #SBATCH --mem-per-cpu=4G",
        "+ #SBATCH --exclusive",
        f"+ set -- {file} --set run.seed=7 --set 'run.directory=my runs'",
    ]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_a_sweep_becomes_an_array(file):
    file.write_text("[sweep]\nrun.seed = [1, 2, 3]\n" + file.read_text())
    submission = prepare(file, (), Request(at_once=2))
    assert len(submission.jobs) == 3
    assert "\n#SBATCH --array=0-2%2\n" in submission.script
    assert "\n#SBATCH --output=hpcq-%A-%a.log\n" in submission.script


def test_notes_say_what_to_expect(file):
    notes = prepare(file, ("run.directory=none",), Request(ntasks=16)).notes
    # 200 MiB for the process, 4 x 16 MiB for pieces of a checkpoint, next to nothing for 50 rows.
    assert notes[0] == "memory: 50 states: at most 264 MiB per rank if all are seen"
    assert notes[1] == "time: 1,000 steps; the log of the first minutes says how long they take"
    assert notes[2] == "warning: 16 ranks for 12 environments: some will idle"
    metrics = file.parent / "metrics.jsonl"
    metrics.write_text('{"step": 400, "steps_per_second": 5.0}\n')
    notes = prepare(file, (f"run.directory={file.parent}",), Request()).notes
    assert notes[1] == "time: 600 steps left, 2 min at the last run's 5 steps/s"
    notes = prepare(file, ("checkpoint.writer=gather",), Request(nodes=2)).notes
    assert "2 nodes will checkpoint through rank 0" in notes[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30", 1800), ("5:30", 330), ("1:30:00", 5400), ("2-12", 216000), ("1-0:0:1", 86401)],
)
def test_time_limits_as_slurm_reads_them(text, expected):
    assert seconds(text) == expected


def test_requests_that_cannot_be(file):
    for request, words in (
        (Request(time="soon"), "--time soon: expected MINUTES"),
        (Request(nodes=5), "--ntasks 4 on --nodes 5"),
        (Request(further=("-N2",)), "--sbatch -N2: expected --OPTION"),
    ):
        with pytest.raises(JobError, match=words):
            prepare(file, (), request)
    with pytest.raises(JobError, match="unknown key run.sed"):
        prepare(file, ("run.sed=1",), Request())


def test_options_that_the_template_lacks_come_after_its_own():
    script = fill_in("#!/bin/sh\n#SBATCH --time=1\necho\n", {"mem": "1G"}, ["a b"])
    assert script == "#!/bin/sh\n#SBATCH --time=1\n#SBATCH --mem=1G\nset -- 'a b'\necho\n"
