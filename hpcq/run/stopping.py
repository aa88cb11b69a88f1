"""When a run is over before its last step: the criteria of the job's section [stop].

Every criterion is checked after fixed ticks, a function of the job alone, and decides by what is
the same on all ranks and for any number of them: integer sums, maxima, an evaluation. Only the
clock is different. Its state is part of the checkpoint (`learning/progress.py`).
"""

import time

import numpy as np
from mpi4py import MPI

from hpcq.collectors.centring import RATE
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.tabular import TableModel
from hpcq.errors import JobError
from hpcq.hashing import unmix64
from hpcq.job.job import Job
from hpcq.learning import exact
from hpcq.learning.learner import ROWS_PER_PIECE, Learner
from hpcq.learning.tick import NO_LIMIT
from hpcq.table.combine import combine_tables


def tick_of(step: int, job: Job, every: int) -> int:
    """Return the first tick that has done `step` steps, of the multiples of `every`."""
    ticks = -(-step // job.environment.count)
    return -(-ticks // every) * every


def next_multiple(tick: int, every: int) -> int:
    """Return the first multiple of `every` after a tick; a tick that never comes for 0."""
    return (tick // every + 1) * every if every else NO_LIMIT


class Stopping:
    """The stopping criteria of one run."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._rules = rules = learner.job.stop
        # A run that a criterion ends can be saved a tick later, or it ends where it can be.
        every = learner.look_every if learner.job.run.cut_episodes else learner.save_every
        # 0: never.
        self._check_every = self._window = 0
        if rules.episodes is not None or rules.bellman_residual is not None:
            self._check_every = tick_of(rules.every, learner.job, every)
        if rules.td_error is not None:
            self._window = tick_of(rules.td_window, learner.job, every)
        self._model = None
        if rules.bellman_residual is not None:
            self._model = _model(learner)
        self._seen = learner.tick
        self._began = time.monotonic() - learner.progress.seconds

    @property
    def seconds(self) -> float:
        """Seconds of training, in all processes of the run."""
        return time.monotonic() - self._began

    def time_is_up(self) -> bool:
        """Return whether stop.minutes are over by this rank's clock; for one rank to ask."""
        return self._rules.minutes is not None and self.seconds >= 60 * self._rules.minutes

    def next(self, tick: int) -> int:
        """Return the tick of the next check."""
        return min(next_multiple(tick, self._window), next_multiple(tick, self._check_every))

    def time_text(self) -> str:
        """Return the criterion that ends the run when time is up, as text."""
        return f"stop.minutes = {self._rules.minutes:g}"

    def check(self, evaluated: bool) -> str | None:
        """Return the criterion that ends the run after this tick, as text, or None. Collective.

        Parameters
        ----------
        evaluated
            whether there was an evaluation at this tick.
        """
        # In other modes than lockstep, more than one tick may have passed.
        learner = self._learner
        seen, self._seen = self._seen, learner.tick
        found = None
        if self._seen >= next_multiple(seen, self._window):
            self._end_window()
            found = self._converged()
        if self._seen >= next_multiple(seen, self._check_every):
            if self._model is not None:
                # The table that is checked is the one that would be saved.
                learner.quiesce()
            if found := found or self._episodes() or self._residual():
                learner.quiesce()
            learner.progress.looked = learner.tick
        return found or (self._evaluation() if evaluated else None)

    def recheck(self) -> str | None:
        """Return the criterion that ended the run before it was saved, or None. Collective."""
        found = self._converged() or self._evaluation()
        tick, progress = self._learner.tick, self._learner.progress
        # One that ended it between two reset ticks was followed by a tick that cut.
        if progress.looked == (tick - 1 if tick in progress.cuts else tick):
            found = found or self._episodes() or self._residual()
        return found

    def store(self) -> None:
        """Bring the state that checkpoints hold up to date. Collective."""
        progress = self._learner.progress
        progress.seconds = self.seconds
        if self._rules.td_error is not None:
            progress.window_error = self._largest_error()

    def _largest_error(self) -> float:
        """Return the largest |TD error| of this window, of all ranks. Collective."""
        learner = self._learner
        mine = max(learner.largest_error(), learner.progress.window_error)
        return float(learner.comm.allreduce(mine, MPI.MAX))

    def _end_window(self) -> None:
        progress = self._learner.progress
        progress.last_error = self._largest_error()
        progress.window_error = 0.0
        self._learner.largest_error(reset=True)

    def _converged(self) -> str | None:
        rule, error = self._rules.td_error, self._learner.progress.last_error
        if rule is None or error is None or error > rule:
            return None
        return f"stop.td_error = {rule:g}: the largest of a window was {error:.3g}"

    def _episodes(self) -> str | None:
        wanted, learner = self._rules.episodes, self._learner
        if wanted is None:
            return None
        ended = learner.comm.allreduce(learner.ended_episodes())
        return f"stop.episodes = {wanted:,}: {ended:,} have ended" if ended >= wanted else None

    def _residual(self) -> str | None:
        rule, learner = self._rules.bellman_residual, self._learner
        if rule is None or self._model is None:
            return None
        residual = bellman_residual(learner, self._model)
        if residual > rule:
            return None
        return f"stop.bellman_residual = {rule:g}: it is {residual:.3g}"

    def _evaluation(self) -> str | None:
        rules, progress = self._rules, self._learner.progress
        target, last = rules.evaluation_return, progress.last_return
        if target is not None and last is not None and last >= target:
            return f"stop.evaluation_return = {target:g}: the evaluation's mean is {last:.4g}"
        if rules.patience is not None and progress.since_best >= rules.patience:
            return (
                f"stop.patience = {rules.patience}: no evaluation after step "
                f"{progress.best_step:,} was better"
            )
        return None


def _model(learner: Learner) -> TableModel:
    environment = learner.environment
    if not learner.algorithm.rule.off_policy:
        raise JobError(
            f"stop.bellman_residual is given, but learning.rule = {learner.job.learning.rule!r} "
            "learns the values of the behaviour policy, not those of the optimal one; take a rule "
            "that learns off-policy, such as q_learning, or use stop.td_error"
        )
    if learner.algorithm.masked:
        raise JobError(
            "stop.bellman_residual is given, but the model does not say which actions are legal "
            "(environment.action_mask); use stop.td_error"
        )
    if isinstance(environment, CompiledEnvironment) and isinstance(environment.model, TableModel):
        return environment.model
    raise JobError(
        f"stop.bellman_residual is given, but {environment.id} is not compiled from a table of "
        "transitions; use stop.td_error, or an environment of toy text"
    )


def bellman_residual(learner: Learner, model: TableModel) -> float:
    """Return max |q(s, a) - r - gamma max_b q(s', b)|, expected by the model. Collective.

    Over all actions of the states that have a row; where there is none, `q_init` counts. Of centred
    rewards, what they are above their mean.
    """
    job, algorithm = learner.job, learner.algorithm
    shape = (model.start.size, algorithm.actions)
    mine, has_row = np.zeros(shape), np.zeros(shape[0])
    for hashes, q, *_ in learner.shard.pieces(ROWS_PER_PIECE):
        states = unmix64.py_func(hashes).astype(np.int64)
        tables = q.reshape(-1, algorithm.tables, algorithm.actions)
        mine[states] = combine_tables(tables, algorithm.combine)
        has_row[states] = 1.0
    # A row has one owner: sums with zeros are exact.
    learner.comm.Allreduce(MPI.IN_PLACE, mine, MPI.SUM)
    learner.comm.Allreduce(MPI.IN_PLACE, has_row, MPI.SUM)
    seen = has_row > 0
    q = np.where(seen[:, None], mine, job.learning.q_init)
    discount = algorithm.sign * job.learning.gamma
    wanted = exact.action_values(model, q.max(axis=1), discount) - learner.centre.numbers[RATE]
    return float(np.abs(q - wanted)[seen].max(initial=0.0))
