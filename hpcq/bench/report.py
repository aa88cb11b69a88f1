"""Measurements as text."""

from typing import Any


def _million(value: float) -> str:
    return f"{value / 1e6:.2f} M/s"


def tick_text(found: dict[str, Any]) -> str:
    """Return the table of one `bench tick`."""
    lines = [
        f"{found['workload']}: {found['environments']} environments on {found['ranks']} ranks, "
        f"{found['states']:,} states, table {found['table_bytes'] / 2**20:,.0f} MiB",
        f"transitions      {_million(found['transitions_per_second'])}"
        f"   ({_million(found['min'])} ... {_million(found['max'])})",
        f"per transition   {found['ns_per_transition_and_rank']:.1f} ns and rank, "
        f"{found['bytes_per_transition']:.1f} bytes on the wire",
        "by phase         "
        + ", ".join(f"{name} {ns:.1f}" for name, ns in found["phases_ns"].items())
        + " ns",
        f"balance          the busiest owner has {found['balance']:.2f} of the mean load; "
        f"{found['network_messages_per_rank']} MPI messages per rank and tick",
    ]
    if "limit" not in found:
        return "\n".join(lines)
    lines += [
        f"limit            {_million(found['limit'])} at two random lines each; "
        f"reached {found['ratio_to_limit']:.2f}",
    ]
    if "serial" in found:
        lines += [
            f"serial           {_million(found['serial'])} with many walkers; "
            f"reached {found['ratio_to_serial']:.2f}",
            f"                 {_million(found['serial_one_walker'])} with one walker; "
            f"reached {found['ratio_to_one_walker']:.2f}",
        ]
    return "\n".join(lines)


def gym_text(found: dict[str, Any]) -> str:
    """Return the table of one `bench gym`."""
    phases = ", ".join(f"{name} {ns / 1e3:.2f}" for name, ns in found["phases_ns"].items())
    return "\n".join(
        [
            f"{found['environment']}: {found['environments']} environments on "
            f"{found['ranks']} ranks"
            + (f", VectorEnvs of {found['vector']}" if found["vector"] else ""),
            f"stepping alone   {found['stepping'] / 1e3:.1f} k/s",
            f"through hpcq     {found['transitions_per_second'] / 1e3:.1f} k/s; "
            f"reached {found['ratio_to_stepping']:.2f}",
            f"by phase         {phases} us per transition and rank",
        ]
    )


def limits_text(found: dict[str, Any]) -> str:
    """Return the table of `bench limits`."""
    lines = [
        f"{found['ranks']} ranks, {found['bytes_per_rank'] / 2**20:,.0f} MiB each, all at once",
        f"random lines     {_million(found['lines_per_second'])}",
        f"sequential       {found['sequential_bytes_per_second'] / 1e9:.1f} GB/s",
        "Alltoallv        bytes per peer   microseconds   GB/s per rank",
    ]
    for row in found["alltoallv"]:
        lines.append(
            f"                 {row['bytes_per_peer']:>14,}   {row['microseconds']:>12.1f}   "
            f"{row['bytes_per_second'] / 1e9:>13.2f}"
        )
    return "\n".join(lines)


def checkpoint_text(found: dict[str, Any]) -> str:
    """Return the table of `bench checkpoint`."""
    size = found["bytes"]
    lines = [
        f"{size / 1e9:.2f} GB on {found['ranks']} ranks; "
        "plain: one process, space reserved, sequential, fsync",
        "writer   plain      write      ratio   read back   pause     verify    load      1 % at",
    ]
    for name, times in found["writers"].items():
        plain, write = times["plain_seconds"], times["write_seconds"]
        lines.append(
            f"{name:<8} {size / plain / 1e9:.2f} GB/s  {size / write / 1e9:.2f} GB/s   "
            f"{plain / write:4.2f} {times['phases_seconds']['read back']:9.2f} s "
            f"{times['pause_seconds']:7.2f} s {times['verify_seconds']:7.2f} s "
            f"{times['load_seconds']:7.2f} s {times['pause_seconds'] / 0.01 / 60:6.1f} min"
        )
    return "\n".join(lines)
