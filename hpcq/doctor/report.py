"""Facts and findings as text."""

import textwrap
from collections import Counter
from collections.abc import Sequence

from hpcq.cluster.implementations import of_launcher
from hpcq.doctor.checks import GIB, Finding
from hpcq.doctor.facts import Facts


def report_text(ranks: Sequence[Facts], findings: Sequence[Finding]) -> str:
    """Return the facts in a few lines, then each finding: what, why it matters, what to do."""
    lines = [*_facts(ranks), ""]
    for finding in findings:
        lines += _wrapped(f"{finding.level}: {finding.what}", "  ")
        lines += _wrapped(f"  why: {finding.why}", " " * 7)
        lines += _wrapped(f"  do:  {finding.remedy}", " " * 7)
    counts = Counter(finding.level for finding in findings)
    found = [f"{n} {level}{'s' * (n > 1)}" for level, n in counts.items()]
    return "\n".join([*lines, ", ".join(found) if found else "nothing to complain about"])


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _launcher(text: str) -> str:
    return str(of_launcher(text) or text.partition("\n")[0])


def _facts(ranks: Sequence[Facts]) -> list[str]:
    first = ranks[0]
    hosts = Counter(facts.node for facts in ranks)
    where = ", ".join(f"{count} on {node}" for node, count in list(hosts.items())[:4])
    if len(hosts) > 4:
        where += f", ... ({len(hosts)} nodes)"
    versions = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    hdf5 = ".".join(map(str, first.hdf5)) or "none"
    values = [
        ("ranks", where),
        ("mpi", first.mpi or "none"),
        ("launcher", _launcher(first.launcher) or "no mpirun on PATH"),
        ("hdf5", f"{hdf5}, h5py {'with' if first.h5py_mpi else 'without'} MPI"),
        ("versions", versions),
        ("cpu", f"{first.cpu or 'unknown'}, {len(first.cpus)} for rank 0"),
        ("memory", f"{first.memory / GIB:.1f} GiB free, huge pages: {first.huge_pages or '-'}"),
        ("kernels", first.cache),
        ("directory", f"{first.directory} ({first.filesystem}), {first.disk / GIB:.1f} GiB free"),
    ]
    return [f"{name:<10} {value}" for name, value in values]
