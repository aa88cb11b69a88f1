# Sourced by jobs/quickstart and tests/run: make a virtual environment, find MPI.
# shellcheck shell=bash

say() { printf '%s\n' "== $*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 69
}

# Print a Python of at least 3.11.
find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python of at least 3.11 on PATH; install one, or set PYTHON=/path/to/python3"
}

# Debian's python3 comes without ensurepip: make do with its pip, or ask for the package.
make_venv() { # FOLDER
    local python
    # Outside any environment that happens to be active: it may be the one to be replaced.
    python=$("$(find_python)" -c 'import sys; print(sys._base_executable)')
    rm -rf "$1"
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv "$1"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --without-pip "$1"
        "$python" -m pip --python "$1/bin/python" install --quiet pip
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing python3-venv"
        apt_install python3-venv
        "$python" -m venv "$1"
    else
        fail "$python has neither ensurepip nor pip; install python3-venv (or python3-pip)"
    fi
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The environment is as old as what it was made from.
stamp() { # FILE...
    cat "$@" | sha256sum | cut -d ' ' -f 1
}

# Open MPI 4 and 5: let root start jobs, and more ranks than cores; the README says what it means.
mpi_settings() {
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    export OMPI_MCA_rmaps_base_oversubscribe=1
    export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
    # Ranks join mpirun quicker: one that is killed in that moment can make mpirun stay for ever.
    export PMIX_MCA_gds=hash
}
