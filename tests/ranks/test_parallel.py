import pytest

from hpcq.errors import CheckpointError, JobError, StorageError
from hpcq.mpi import agree, first_on_each_node, on_root

pytestmark = pytest.mark.mpi


def test_a_failure_on_one_rank_is_a_failure_on_all(comm):
    bad = comm.size - 1

    def work():
        if comm.rank == bad:
            raise CheckpointError("torn")
        return comm.rank

    with pytest.raises(CheckpointError, match="torn") as caught:
        agree(comm, work)
    assert caught.value.collective
    if comm.size > 1:
        assert str(caught.value).startswith(f"rank {bad}: ")


def test_an_oserror_becomes_a_storage_error(comm):
    def work():
        if comm.rank == 0:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="some/file.*No space left"):
        agree(comm, work, "some/file")


def test_success_returns_each_ranks_result(comm):
    assert agree(comm, lambda: comm.rank * 2) == comm.rank * 2


def test_on_root_gives_all_the_roots_result_or_error(comm):
    assert on_root(comm, lambda: comm.rank + 10) == 10

    def fail():
        raise JobError("no such key")

    with pytest.raises(JobError, match="no such key") as caught:
        on_root(comm, fail)
    assert caught.value.collective


def test_one_rank_of_a_node_goes_first(comm, folder):
    with first_on_each_node(comm):
        seen = sorted(path.name for path in folder.iterdir())
        (folder / f"{comm.rank}").touch()
    # All ranks are on this machine, so rank 0 is the first of its node.
    assert seen == [] if comm.rank == 0 else "0" in seen
