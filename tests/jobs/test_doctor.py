"""Each condition is made for real, and `hpcq doctor` must find it, and say what to do."""

import os
import subprocess

import make_job
import pytest
from launch import HPCQ, hpcq


def finding(done, words):
    """Return one finding in full, on one line: what, why, and what to do."""
    text = done.stdout[done.stdout.index("\n\n") + 2 :]
    text = " ".join(line if line[0] != " " else line.strip() for line in text.splitlines() if line)
    for level in ("problem: ", "warning: ", "note: "):
        text = text.replace(f" {level}", f"\n{level}")
    found = next(line for line in text.splitlines() if words in line)
    assert "why: " in found
    assert "do: " in found
    return found


@pytest.mark.parametrize("ranks", [None, 2])
def test_a_sound_machine(ranks, tmp_path):
    done = hpcq(ranks, "doctor", tmp_path)
    assert "problem:" not in done.stdout
    assert f"ranks      {ranks or 1} on " in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_singleton_launch(other_packages, tmp_path):
    """Two real singletons: Open MPI under the mpiexec of MPICH. `run` refuses, doctor explains."""
    mpiexec = [str(other_packages("mpich").parent / "bin" / "mpiexec"), "-n", "2", HPCQ]
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    for arguments in (["doctor", tmp_path], ["run", job, f"--set=run.directory='{tmp_path}/run'"]):
        done = subprocess.run(
            [*mpiexec, *arguments],
            capture_output=True,
            text=True,
            env=dict(os.environ),
            check=False,
        )
        assert done.returncode == 69
        text = done.stdout if "doctor" in arguments else done.stderr
        assert text.count("2 processes were started (PMI_SIZE=2), but MPI joins none of them") == 1
    assert not (tmp_path / "run").exists()


def test_another_mpi_than_the_launcher_s(other_packages, tmp_path):
    """MPICH under Open MPI's mpirun."""
    env = {"MPI4PY_MPIABI": "mpich", "LD_LIBRARY_PATH": str(other_packages("mpich"))}
    done = hpcq(2, "doctor", tmp_path, env=env, code=69)
    what = finding(done, "2 processes were started (OMPI_COMM_WORLD_SIZE=2)")
    assert "in use, MPICH Version" in what
    assert "rebuild mpi4py for the MPI of your launcher" in what
    assert done.stdout.count("ranks      1 on") == 1

    done = hpcq(None, "doctor", tmp_path, env=env, code=69)
    assert "mpi4py uses MPICH" in finding(done, "mpirun is of Open MPI")

    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    done = hpcq(2, "run", job, f"--set=run.directory='{tmp_path / 'run'}'", env=env, code=69)
    assert done.stderr.count("MPI joins none of them") == 1
    assert not (tmp_path / "run").exists()


def test_no_mpi_at_all(tmp_path):
    env = {"MPI4PY_LIBMPI": "/none/libmpi.so"}
    for ranks in (None, 2):
        done = hpcq(ranks, "doctor", tmp_path, env=env, code=69)
        assert "load the module" in finding(done, "problem: mpi4py cannot load an MPI library")
    done = hpcq(None, "run", "job.toml", env=env, code=69)
    assert "mpi4py cannot load an MPI library" in done.stderr


def test_serial_h5py(other_packages, tmp_path):
    packages = next(other_packages("h5py").glob("*/site-packages"))
    path = os.pathsep.join([str(packages), os.environ["PYTHONPATH"]])
    done = hpcq(2, "doctor", tmp_path, env={"PYTHONPATH": path})
    assert "on one node it hardly matters" in finding(done, "note: h5py is serial")
    env = {"PYTHONPATH": path, "SLURM_JOB_NUM_NODES": "2"}
    done = hpcq(None, "doctor", tmp_path, env=env)
    assert "build h5py on the site's parallel HDF5" in finding(done, "warning: h5py is serial")


def test_no_h5py(tmp_path):
    (tmp_path / "h5py.py").write_text("raise ImportError('libhdf5.so.310: cannot open')")
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    done = hpcq(2, "doctor", tmp_path, env={"PYTHONPATH": path}, code=69)
    assert "libhdf5.so.310" in finding(done, "problem: h5py cannot be imported on rank 0")


def test_more_ranks_than_processors(tmp_path):
    count = len(os.sched_getaffinity(0)) + 1
    done = hpcq(count, "doctor", tmp_path, code=69)
    assert f"at most {count - 1} ranks there" in finding(
        done, f"problem: oversubscribed: {count} ranks on {count - 1} CPUs"
    )


def test_ranks_bound_to_one_processor(tmp_path):
    done = subprocess.run(
        ["mpirun", "-n", "2", "taskset", "-c", "0", HPCQ, "doctor", tmp_path],
        capture_output=True, text=True, env=dict(os.environ), check=False,
    )  # fmt: skip
    assert done.returncode == 69
    assert "oversubscribed: 2 ranks on 1 CPUs" in done.stdout


def test_several_threads_per_rank(tmp_path):
    done = hpcq(2, "doctor", tmp_path, env={"OMP_NUM_THREADS": "8"})
    assert "export OMP_NUM_THREADS=1" in finding(done, "OMP_NUM_THREADS is not 1 on ranks 0, 1")


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    cache = str(tmp_path / "file" / "cache")
    done = hpcq(2, "doctor", tmp_path, env={"HPCQ_CACHE_DIR": cache})
    assert "Not a directory" in finding(done, f"compiled kernels cannot be kept in {cache}")


def test_file_locking_asked_for(tmp_path):
    done = hpcq(None, "doctor", tmp_path, env={"HDF5_USE_FILE_LOCKING": "TRUE"})
    assert "unset" in finding(done, "HDF5_USE_FILE_LOCKING=TRUE is set")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", tmp_path], check=True)
    try:
        done = hpcq(2, "doctor", tmp_path / "runs" / "new", code=69)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    what = finding(done, f"problem: rank 0 cannot write 4 MiB to {tmp_path}")
    assert "No space left on device" in what
    assert "(tmpfs)" in done.stdout
