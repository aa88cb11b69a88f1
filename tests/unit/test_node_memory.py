import os

import pytest

from hpcq.checkpoint import node_memory
from hpcq.errors import StorageError


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(node_memory, "ROOT", tmp_path / "memory")
    node_memory.ROOT.mkdir()


def test_a_run_keeps_its_number(tmp_path):
    assert node_memory.number_of(tmp_path) is None
    number = node_memory.give_number(tmp_path)
    assert node_memory.give_number(tmp_path) == node_memory.number_of(tmp_path) == number
    for garbled in ("", "{}", '{"number": "../../etc"}', '{"number": 7}', "[]"):
        (tmp_path / node_memory.NUMBER).write_text(garbled)
        assert node_memory.number_of(tmp_path) is None


def test_only_orphans_are_removed(tmp_path):
    runs = {name: tmp_path / name for name in ("goes on", "gone", "begun anew")}
    for run in runs.values():
        run.mkdir()
        node_memory.make_folder(node_memory.give_number(run), run)
    for run in ("gone", "begun anew"):
        (runs[run] / node_memory.NUMBER).unlink()
    runs["gone"].rmdir()
    node_memory.give_number(runs["begun anew"])
    # On a file system that is not there now.
    away = tmp_path / "mount" / "away"
    node_memory.make_folder("0" * 32, away)
    node_memory.make_folder("1" * 32, away)
    (node_memory.folder_of("1" * 32) / "run").unlink()
    node_memory.remove_orphans()
    kept = {node_memory.run_of(folder) for folder in node_memory.folders()}
    assert kept == {runs["goes on"], away, None}


def test_what_is_somebody_elses_is_not_used(tmp_path):
    number = node_memory.give_number(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ckpt-000000000000100.h5").touch()
    node_memory.folder_of(number).symlink_to(elsewhere)
    with pytest.raises(StorageError, match="somebody else's"):
        node_memory.make_folder(number, tmp_path)
    assert node_memory.newest(number) is None
    node_memory.folder_of(number).unlink()
    node_memory.make_folder(number, tmp_path)
    assert os.stat(node_memory.folder_of(number)).st_mode & 0o777 == 0o700
