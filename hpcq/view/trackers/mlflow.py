"""Runs for MLflow, where $MLFLOW_TRACKING_URI says: a database, a server."""

from collections.abc import Iterable, Iterator
from typing import Any

from hpcq.view.publishing import Published

# MLflow's own limits: of one request, and of a text.
_METRICS, _OTHERS, _LENGTH = 1000, 100, 5000
_STATES = {"done": "FINISHED", "running": "RUNNING", "stopped": "KILLED"}
# Tags: which run it is, and the time of the last line of the metrics that has been sent.
_ID, _SENT = "hpcq.id", "hpcq.sent"


class Sender:
    """Sends runs; one that is there, by its tag, gets the lines that it does not have.

    Raises
    ------
    ImportError
        where MLflow is missing.
    """

    def __init__(self) -> None:
        from mlflow import MlflowClient, entities

        self._client, self._entities = MlflowClient(), entities

    def __call__(self, run: Published, project: str) -> str:
        """Send a run; return where it is."""
        client, made = self._client, self._entities
        experiment = client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else client.create_experiment(project)
        found = client.search_runs([number], f"tags.`{_ID}` = '{run.id}'", max_results=1)
        if found:
            stored = found[0]
        else:
            stored = client.create_run(number, tags={_ID: run.id, "mlflow.runName": run.name})
        identity = stored.info.run_id
        sent = float(stored.data.tags.get(_SENT, -1.0))
        for some in _pieces(self._metrics(run, sent, stored.data.metrics), _METRICS):
            client.log_batch(identity, metrics=some)
        if not found:
            for some in _pieces(_texts(made.Param, run.settings), _OTHERS):
                client.log_batch(identity, params=some)
        last = max((time for _, time, _ in run.points), default=sent)
        for some in _pieces(
            _texts(made.RunTag, {**run.changeable, **run.facts, _SENT: last}), _OTHERS
        ):
            client.log_batch(identity, tags=some)
        client.log_text(identity, run.job, "job.toml")
        client.set_terminated(identity, _STATES[run.state], int(1000 * max(last, 0.0)))
        return f"MLflow, experiment {project}, run {identity}{', updated' if found else ''}"

    def _metrics(self, run: Published, sent: float, known: dict[str, float]) -> Iterator[Any]:
        """Yield the points that have not been sent, and results that are new."""
        step, time = run.points[-1][:2] if run.points else (0, 0.0)
        for at, when, values in run.points:
            if when > sent:
                for name, value in values.items():
                    yield self._entities.Metric(name, value, int(1000 * when), at)
        for name, value in run.results.items():
            if known.get(f"summary.{name}") != value:
                yield self._entities.Metric(f"summary.{name}", value, int(1000 * time), step)


def _texts(made: Any, values: dict[str, Any]) -> list[Any]:
    """Return MLflow's own objects of keys and texts."""
    return [made(key, str(value)[:_LENGTH]) for key, value in values.items()]


def _pieces(values: Iterable[Any], most: int) -> Iterator[list[Any]]:
    found = list(values)
    for begin in range(0, len(found), most):
        yield found[begin : begin + most]
