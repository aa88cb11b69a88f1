"""Runs for Weights & Biases; with WANDB_MODE=offline into files, for `wandb sync` elsewhere."""

from hpcq.view.publishing import Published


class Sender:
    """Sends runs; W&B goes on with the one that has the same id.

    Raises
    ------
    ImportError
        where W&B is missing.
    """

    def __init__(self) -> None:
        import wandb

        self._wandb = wandb

    def __call__(self, run: Published, project: str) -> str:
        """Send a run; return where it is."""
        started = self._wandb.init(
            project=project,
            id=run.id,
            name=run.name,
            resume="allow",
            config={**run.settings, **run.changeable},
            # Nothing of this process: it is not the run's.
            settings=self._wandb.Settings(
                console="off", silent=True, disable_git=True, x_disable_stats=True
            ),
        )
        for step, _, values in run.points:
            # W&B's steps only grow; those of a run that it goes on with are there already.
            if step >= started.step:
                started.log(values, step=step)
        started.summary.update({**run.results, **run.facts})
        place = started.dir if started.offline else started.url
        started.finish()
        return f"W&B, project {project}, run {run.id}: {place}"
