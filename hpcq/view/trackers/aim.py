"""Runs for Aim, in the repository of the working folder or one above it; made where none is."""

from hpcq.view.publishing import Published


class Sender:
    """Sends runs; one that is there, by its description, is opened, and each step is put again.

    Raises
    ------
    ImportError
        where Aim is missing.
    """

    def __init__(self) -> None:
        import aim

        self._run, self._repo = aim.Run, aim.Repo.default_repo(init=True)

    def __call__(self, run: Published, project: str) -> str:
        """Send a run; return where it is."""
        description = f"hpcq {run.id}"
        there = [
            each.hash for each in self._repo.structured_db.runs() if each.description == description
        ]
        stored = self._run(
            run_hash=there[0] if there else None,
            repo=self._repo,
            experiment=project,
            # Nothing of this process: it is not the run's.
            system_tracking_interval=None,
            log_system_params=False,
            capture_terminal_logs=False,
        )
        stored.name, stored.description = run.name, description
        stored["job"] = {**run.settings, **run.changeable}
        stored["summary"] = {**run.results, **run.facts}
        for step, _, values in run.points:
            for name, value in values.items():
                stored.track(value, name=name, step=step)
        stored.close()
        return f"Aim, experiment {project}, run {stored.hash}{', updated' if there else ''}"
