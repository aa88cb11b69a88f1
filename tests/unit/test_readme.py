"""What the README shows in Python is run, block after block."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def section(title):
    text = README.read_text()
    return re.search(rf"^## {title}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL).group(1)


def test_what_is_shown_from_python_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", section("From Python"), re.DOTALL)
    assert len(blocks) >= 3
    program = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *reports, values, mean, row, total = done.stdout.splitlines()
    assert int(reports[-1].split()[0]) == 2_000_000
    assert values.startswith("[")
    assert 0.5 < float(mean) <= 1
    assert row.startswith("11 True [")
    assert 0 < float(total) < 1
    assert (tmp_path / "runs" / "lake" / "metrics.jsonl").exists()
