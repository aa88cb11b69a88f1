"""The checks on made-up facts, where the condition needs more than one machine."""

import mmap
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hpcq.doctor import facts
from hpcq.doctor.checks import GIB, examine
from hpcq.doctor.facts import Facts

SOUND = [
    Facts(
        rank=rank, size=4, host=f"h{rank // 2}", node=f"n{rank // 2}", nodes=2,
        launcher="mpirun (Open MPI) 5.0.1", mpi="Open MPI v5.0.11",
        h5py_mpi=True, hdf5=(1, 14, 0), versions={"hpcq": "1"}, cpu="A", cpus=[0, 1],
        threads={"OMP_NUM_THREADS": "1"}, huge_pages="madvise", memory=9 * GIB, disk=9 * GIB,
    )
    for rank in range(4)
]  # fmt: skip

LEFT = {"/dev/shm/vader_segment.h1.0.1": 1 << 20, "/dev/shm/vader_segment.h1.0.2": 2 << 20}


def with_last(**changes):
    return [*SOUND[:3], replace(SOUND[3], **changes)]


def with_all(**changes):
    return [replace(rank, **changes) for rank in SOUND]


def test_nothing_to_find():
    assert examine(SOUND) == []


@pytest.mark.parametrize(
    ("ranks", "level", "what"),
    [
        (with_last(versions={"hpcq": "2"}), "problem", "hpcq is 1 on rank 0 and 2 on rank 3"),
        (
            [*SOUND[:2], *(replace(rank, leftovers=LEFT) for rank in SOUND[2:])],
            "note",
            "3.0 MiB of shared memory on h1 are left of MPI jobs that were killed (2 files)",
        ),
        (
            with_all(below={"gymnasium": ("0.29.1", "1.0")}),
            "problem",
            "gymnasium is 0.29.1, hpcq needs 1.0 or newer",
        ),
        (with_last(cpu="B"), "warning", "different CPUs: A, B"),
        (with_last(shared=False), "problem", "of rank 3 (h1) is not that of rank 0"),
        (with_last(clock=-60.0), "warning", "the clock of h1 is 60 s behind"),
        (with_last(disk_clock=90.0), "warning", "the file system's clock, seen from h1, is 90 s"),
        (with_last(memory=GIB // 2), "warning", "0.5 GiB of memory for 2 ranks on h1"),
        (with_last(huge_pages="never"), "warning", "huge pages are off"),
        (with_all(h5py_mpi=False), "warning", "h5py is serial"),
        (with_all(hdf5=(1, 10, 6)), "note", "HDF5 1.10.6"),
        (with_all(nodes=3), "warning", "the allocation has 3 nodes, the ranks are on 2"),
        (with_all(launcher="mpirun (Open MPI) 4.1.4"), "problem", "mpirun is of Open MPI 4"),
        (
            with_all(launcher="HYDRA build details:\n Version: 4.2"),
            "problem",
            "mpirun is of MPICH",
        ),
        (with_all(mpi_files=["/a/libmpi.so", "/b/libmpi.so"]), "problem", "two MPI libraries"),
        (with_all(cpus=[1]), "problem", "oversubscribed: 2 ranks on 1 CPUs of h0"),
        (with_last(core=0.4), "warning", "busy cores: rank 3 got 40% of a core of h1"),
        (with_all(disk=0), "warning", "0.00 GiB free"),
    ],
)
def test_one_thing_is_wrong(ranks, level, what):
    found = examine(ranks)
    assert found
    assert what in found[0].what
    assert all(finding.level == level and finding.why and finding.remedy for finding in found)


def test_what_is_left_is_named_by_what_it_begins_with():
    left = {**LEFT, "/dev/shm/mpich_shm_eb095fc2_0": 2 << 20, "/dev/shm/Intel_MPI_rapQNM": 1 << 20}
    found = examine(with_all(leftovers=left))[0]
    assert found.remedy.endswith(
        "rm /dev/shm/Intel_MPI_* /dev/shm/mpich_shm_* /dev/shm/vader_segment.*"
    )


def test_the_script_that_intel_calls_mpirun():
    says = "Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240515 (id: df72937)"
    (found,) = examine(with_all(launcher=says, mpi="Intel(R) MPI Library 2021.13 for Linux* OS"))
    assert found.level == "note"
    assert "mpiexec.hydra" in found.remedy


def test_two_ranks_bound_to_one_processor_while_others_are_free():
    ranks = [
        replace(facts, host="h", cpus=[cpu]) for facts, cpu in zip(SOUND, [0, 0, 1, 2], strict=True)
    ]
    ranks += [replace(facts, rank=facts.rank + 4, host="h", cpus=[3, 4]) for facts in SOUND[:1]]
    assert "several ranks are bound to CPU 0 of h" in examine(ranks)[0].what


def test_a_core_that_is_shared_is_noticed():
    """Two threads of one process share its lock: each gets about half of the time."""
    shares = [0.0, 0.0]

    def work(number):
        shares[number] = facts.core_share(0.3)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < min(shares) < 0.75


@pytest.mark.parametrize("name", ["vader_segment.test.{}", "mpich_shm_{}_0", "Intel_MPI_{}"])
def test_shared_memory_counts_as_left_only_where_nobody_uses_it(name):
    with open(f"/dev/shm/{name.format(os.getpid())}", "w+b") as file:
        try:
            file.write(bytes(1 << 20))
            file.flush()
            assert facts.survey(Path()).leftovers[file.name] == 1 << 20
            with mmap.mmap(file.fileno(), 1 << 20):
                assert file.name not in facts.survey(Path()).leftovers
        finally:
            os.unlink(file.name)
