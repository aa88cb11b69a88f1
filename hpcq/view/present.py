"""Inspections as text for people."""

from typing import Any


def row_text(row: dict[str, Any]) -> str:
    """Return one state's row: observation, Q-values, greedy actions, visits."""
    values = " ".join("-" if value is None else f"{value:.4g}" for value in row["q"])
    text = f"{row['observation']!s:>12}  q [{values}]  greedy {row['greedy']}"
    if "visits" in row:
        text += f"  visits {row['visits']}"
    return text


def summary_text(summary: dict[str, Any]) -> str:
    """Return the summary of a checkpoint, as `inspect.inspect` gives it."""
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    space = summary["observation"]["kind"]
    lines = [
        ("file", summary["file"]),
        ("environment", f"{summary['environment']}, {summary['environments']} at once"),
        ("observations", f"{space}, {summary['state_space']:,} states"),
        ("actions", str(summary["actions"])),
        ("trained", f"{summary['steps']:,} steps, {summary['episodes']:,} episodes"),
        ("table", f"{summary['states']:,} states seen, {summary['dtype']}"),
    ]
    if "updates" in summary:
        lines.append(("updates", f"{summary['updates']:,} counted"))
    lines += [
        ("digest", summary["digest"]),
        ("written by", f"{summary['written_by_ranks']} ranks; {versions}"),
    ]
    text = [f"{name:<13} {value}" for name, value in lines]
    for name in ("largest", "smallest"):
        text.append(f"{name} greedy values (observation, q, greedy actions)")
        text += [row_text(row) for row in summary[name]]
    return "\n".join(text)
