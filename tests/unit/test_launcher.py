from hpcq.cluster.launcher import cannot_join, first_rank, launched, unused_tasks


def test_the_innermost_launcher_counts():
    inside = {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "2", "OMPI_COMM_WORLD_SIZE": "3"}
    assert launched(inside) == (3, "OMPI_COMM_WORLD_SIZE")
    assert launched({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "2"})[0] == 2
    assert launched({"PMI_SIZE": "5"}) == (5, "PMI_SIZE")
    assert launched({}) == (1, "")


def test_tasks_that_no_launcher_uses():
    assert unused_tasks({"SLURM_NTASKS": "4"}) == 4
    assert unused_tasks({"SLURM_NTASKS": "1"}) == 0
    assert unused_tasks({"SLURM_NTASKS": "4", "OMPI_COMM_WORLD_SIZE": "1"}) == 0
    assert unused_tasks({}) == 0


def test_one_process_speaks():
    assert first_rank({})
    assert first_rank({"SLURM_PROCID": "3", "OMPI_COMM_WORLD_RANK": "0"})
    assert not first_rank({"SLURM_PROCID": "1"})


def test_what_mpi_cannot_join():
    mpirun = {"OMPI_COMM_WORLD_SIZE": "2", "SLURM_STEP_NUM_TASKS": "1"}
    assert cannot_join("MPICH Version: 4.2", mpirun)
    assert not cannot_join("Open MPI v4.1.4", mpirun)
    srun = {"SLURM_STEP_NUM_TASKS": "2"}
    assert cannot_join("Open MPI v4.1.4", srun)
    assert not cannot_join("Open MPI v4.1.4", {**srun, "PMIX_RANK": "1"})
    assert not cannot_join("MPICH Version: 4.2", {**srun, "PMI_SIZE": "2"})
    pmix = {**srun, "PMIX_RANK": "1"}
    assert cannot_join("MPICH Version: 4.2\nMPICH configure: --prefix=/usr", pmix)
    assert not cannot_join("MPICH Version: 4.2\nMPICH configure: --with-pmix=/usr", pmix)
    cray = {**srun, "PALS_APID": "1", "PMI_CONTROL_PORT": "2"}
    assert not cannot_join("MPI VERSION    : CRAY MPICH version 8.1.28 (ANL base 3.4a2)", cray)
    assert not cannot_join("Open MPI v4.1.4", {"SLURM_STEP_NUM_TASKS": "1"})
