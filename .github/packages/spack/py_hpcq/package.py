"""hpcq for Spack: a folder of its packages repository."""

from spack.package import depends_on, license, variant, version
from spack_repo.builtin.build_systems.python import PythonPackage


class PyHpcq(PythonPackage):
    """Distributed tabular Q-learning over MPI."""

    pypi = "hpcq/hpcq-0.2.0.tar.gz"

    license("MIT")

    # Its checksum comes with the archive of a release.
    version("0.2.0")

    variant("mpio", default=True, description="Write checkpoints through parallel HDF5, too")

    depends_on("python@3.11:", type=("build", "run"))
    depends_on("py-setuptools@77:", type="build")
    depends_on("py-mpi4py@4.1:", type=("build", "run"))
    depends_on("py-numpy@2.1:", type=("build", "run"))
    depends_on("py-h5py@3.12:", type=("build", "run"))
    depends_on("py-h5py+mpi", type=("build", "run"), when="+mpio")
    depends_on("py-gymnasium@1.0:", type=("build", "run"))
    depends_on("py-numba@0.61:", type=("build", "run"))
    depends_on("py-pydantic@2.10:", type=("build", "run"))
    depends_on("py-click@8.1:", type=("build", "run"))
    depends_on("py-rich@13.9:", type=("build", "run"))
