"""The bundled environments: ids ``hpcq/NAME-v0`` and the functions that make them.

Each function takes the time limit, and the job's `environment.kwargs` by name.
"""

import dataclasses
import inspect
from collections.abc import Callable

from hpcq.envs import tabular
from hpcq.envs.bundled import blackjack, control, games, gridworld, operations_research, puzzles
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import JobError
from hpcq.job.environment_section import EnvironmentSection

BUNDLED: dict[str, Callable[..., CompiledEnvironment]] = {
    "hpcq/Garnet-v0": tabular.garnet_environment,
    "hpcq/Gridworld-v0": gridworld.gridworld,
    "hpcq/Blackjack-v0": blackjack.blackjack,
    "hpcq/TicTacToe-v0": games.tictactoe,
    "hpcq/ConnectFour-v0": games.connect_four,
    "hpcq/Nim-v0": games.nim,
    "hpcq/EightPuzzle-v0": puzzles.eight_puzzle,
    "hpcq/PocketCube-v0": puzzles.pocket_cube,
    "hpcq/Inventory-v0": operations_research.inventory,
    "hpcq/Admission-v0": operations_research.admission,
    "hpcq/AccessControl-v0": operations_research.access_control,
    "hpcq/CartPole-v0": control.cartpole,
    "hpcq/MountainCar-v0": control.mountain_car,
    "hpcq/Acrobot-v0": control.acrobot,
    "hpcq/Pendulum-v0": control.pendulum,
}


def make(section: EnvironmentSection) -> CompiledEnvironment:
    """Return the bundled environment that a job asks for.

    Raises
    ------
    JobError
        naming the id and the ones there are, or the argument that is wrong and the ones expected.
    """
    factory = BUNDLED.get(section.id)
    if factory is None:
        raise JobError(
            f"environment.id = {section.id!r} is not one of hpcq's: {', '.join(BUNDLED)}"
        )
    if section.backend == "python":
        raise JobError(f"environment.backend = 'python', but {section.id} is compiled")
    try:
        made = factory(section.max_episode_steps, **section.kwargs)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise
        problem = str(error).partition("()")[2].strip()
        raise JobError(
            f"environment.kwargs of {section.id}: {problem}; expected {_expected(factory)}"
        ) from None
    return dataclasses.replace(made, self_play=bool(made.self_play))


def _expected(factory: Callable) -> str:
    """Name the keyword arguments of a function."""
    named = list(inspect.signature(factory).parameters.values())[1:]
    needed = [p.name for p in named if p.default is inspect.Parameter.empty]
    optional = [p.name for p in named if p.default is not inspect.Parameter.empty]
    parts = [", ".join(needed)] if needed else []
    if optional:
        parts.append(("and optionally " if needed else "optionally ") + ", ".join(optional))
    return ", ".join(parts) or "none"
