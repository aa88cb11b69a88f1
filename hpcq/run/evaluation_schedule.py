"""The evaluations of a run: when there is one, and the best checkpoint, which is kept."""

from collections.abc import Callable
from pathlib import Path

from hpcq.checkpoint.files import keep_best
from hpcq.learning.evaluation import Evaluation, Evaluator
from hpcq.learning.learner import Learner
from hpcq.mpi import on_root
from hpcq.run.stopping import next_multiple, tick_of


class EvaluationSchedule:
    """Evaluates every `evaluation.every` steps, if the job has that key. Collective.

    Parameters
    ----------
    beat
        called in every tick of an evaluation.

    Attributes
    ----------
    best_now : bool
        whether the last evaluation is the best so far, and its checkpoint is still to be kept
    """

    def __init__(self, learner: Learner, beat: Callable[[], None]) -> None:
        self._learner = learner
        section = learner.job.evaluation
        self._keeps = section.keep_best
        self._every, self._evaluator = 0, None
        self._seen = learner.tick
        # A run killed after it was saved, and before that file was kept, makes up for it.
        self.best_now = self._keeps and learner.steps == learner.progress.best_step
        if section.every is not None:
            self._every = tick_of(section.every, learner.job, learner.save_every)
            self._evaluator = Evaluator(
                learner.algorithm, learner.environment, section, learner.shard, learner.comm, beat
            )

    def next(self, tick: int) -> int:
        """Return the tick of the evaluation to come."""
        return next_multiple(tick, self._every)

    def none_before(self, last: int) -> str:
        """Return what to say if the first evaluation comes after the run's last tick."""
        first = self.next(self._learner.tick)
        if self._every == 0 or first <= last:
            return ""
        return (
            f"note: no evaluation: the first would be at step "
            f"{first * self._learner.job.environment.count:,}, after the end (Python environments: "
            "evaluations are at reset ticks); lower evaluation.every, or environment.reset_every"
        )

    def due(self) -> bool:
        """Return whether it is time for one: after this tick, or any since this was last asked."""
        if self._every == 0:
            return False
        seen, self._seen = self._seen, self._learner.tick
        return self._seen // self._every > seen // self._every

    def evaluate(self) -> Evaluation | None:
        """Evaluate if it is due; note the result in the learner's progress."""
        if self._evaluator is None or not self.due():
            return None
        # What is saved as the best must be what was evaluated.
        self._learner.quiesce()
        found = self._evaluator.evaluate()
        best = self._learner.progress.note(found.mean_return, self._learner.steps)
        self.best_now = self._keeps and best
        return found

    def keep(self, checkpoint: Path) -> None:
        """Keep a checkpoint, just written, as the best, if it is."""
        if self.best_now:
            self.best_now = False
            on_root(self._learner.comm, lambda: keep_best(checkpoint))

    def close(self) -> None:
        """Release environments and MPI datatypes."""
        if self._evaluator is not None:
            self._evaluator.close()
