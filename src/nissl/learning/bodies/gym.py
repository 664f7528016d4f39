"""Swimming as gymnasium environments: one body, and many side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError, MissingExtraError
from nissl.learning.bodies._body import CONTROL_STEP, EPISODE, SwimmerBody
from nissl.learning.bodies.policies import n_features
from nissl.learning.bodies.swimming import make_body

if TYPE_CHECKING:
    from gymnasium import Env
    from gymnasium.spaces import Box
    from gymnasium.vector import VectorEnv
else:
    try:
        from gymnasium import Env
        from gymnasium.vector import VectorEnv
    except ImportError:  # said when an environment is made
        Env = VectorEnv = object


class SwimmerEnv(Env):
    """The task of swimming forwards, for one body.

    Parameters
    ----------
    n_links
        Links of the body, from 3.
    body
        `planar` or `mujoco`.
    steps
        Control steps after which an episode is cut.
    render_mode
        `rgb_array`, or None.

    Raises
    ------
    InputError
        Fewer than three links, or no step.
    UnknownNameError
        No such body.
    MissingExtraError
        MuJoCo is asked for and not installed.

    Notes
    -----
    Observation: joint angles (rad), velocity of each link across and along it and its turning (m/s, rad/s), and the time, from -1 at the beginning
    to 1 after 1000 steps: 4 n_links numbers. Action: commands of the joints in [-1, 1]. Reward: from 0 at rest to 1 at 0.1 m/s forwards.

    Examples
    --------
    >>> from importlib.util import find_spec
    >>> if find_spec("gymnasium"):
    ...     first, _ = SwimmerEnv().reset(seed=0)
    ...     assert first.shape == (24,)
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": round(1 / CONTROL_STEP)}

    def __init__(
        self, n_links: int = 6, body: str = "planar", steps: int = EPISODE, render_mode: str | None = None
    ) -> None:
        _gymnasium()
        if render_mode not in (None, "rgb_array"):
            raise InputError(f"render_mode {render_mode!r}; allowed: 'rgb_array' or None")
        self.render_mode = render_mode
        self.swimmer = make_body(body, n_links, 1)
        self.steps, self.step_count = _checked(steps), 0
        self.observation_space, self.action_space = _spaces(self.swimmer)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, "feature"], dict[str, Any]]:
        """Begin an episode with a heading and angles drawn at random."""
        super().reset(seed=seed)
        self.swimmer.reset(self.np_random)
        self.step_count = 0
        return self._observe(), {}

    def step(
        self, action: Float[np.ndarray, "joint"]
    ) -> tuple[Float[np.ndarray, "feature"], float, bool, bool, dict[str, Any]]:
        """Hold a command for 0.03 s; what lies outside [-1, 1] is clipped."""
        self.swimmer.step(np.asarray(action, dtype=float)[None])
        self.step_count += 1
        speed = float(self.swimmer.forward_speed[0])
        cut = self.step_count >= self.steps
        return self._observe(), float(self.swimmer.reward[0]), False, cut, {"forward_speed": speed}

    def render(self) -> np.ndarray | None:
        """The body as a picture (y, x, colour)."""
        if self.render_mode is None:
            return None
        return picture(self.swimmer.points[0])

    def _observe(self) -> Float[np.ndarray, "feature"]:
        return self.swimmer.observation(self.step_count)[0].astype(np.float32)


class SwimmerVectorEnv(VectorEnv):
    """The task of swimming forwards for many bodies, moved together.

    Parameters
    ----------
    n_envs
        How many.
    n_links, body, steps
        As for `SwimmerEnv`.

    Raises
    ------
    InputError, UnknownNameError, MissingExtraError
        As for `SwimmerEnv`.

    Notes
    -----
    All episodes begin and are cut together. With the last step of one the observations are those of the next, and the last
    ones of the old are in ``info["final_obs"]`` (gymnasium's mode SAME_STEP).

    Examples
    --------
    >>> from importlib.util import find_spec
    >>> if find_spec("gymnasium"):
    ...     observations, _ = SwimmerVectorEnv(3).reset(seed=0)
    ...     assert observations.shape == (3, 24)
    """

    def __init__(self, n_envs: int, n_links: int = 6, body: str = "planar", steps: int = EPISODE) -> None:
        gymnasium = _gymnasium()
        self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        self.swimmer = make_body(body, n_links, n_envs)
        self.num_envs = self.swimmer.n_bodies
        self.steps, self.step_count = _checked(steps), 0
        self.single_observation_space, self.single_action_space = _spaces(self.swimmer)
        batched = gymnasium.vector.utils.batch_space
        self.observation_space = batched(self.single_observation_space, self.num_envs)
        self.action_space = batched(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, "body feature"], dict[str, Any]]:
        """Begin all episodes."""
        if isinstance(seed, list):
            seed = seed[0]
        super().reset(seed=seed)
        return self._begin(), {}

    def step(
        self, actions: Float[np.ndarray, "body joint"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Hold a command for each body for 0.03 s."""
        self.swimmer.step(actions)
        self.step_count += 1
        reward, observed = self.swimmer.reward, self._observe()
        over = np.full(self.num_envs, self.step_count >= self.steps)
        info: dict[str, Any] = {}
        if over.all():
            last = np.empty(self.num_envs, object)
            last[:] = list(observed)
            info = {"final_obs": last, "_final_obs": over}
            observed = self._begin()
        return observed, reward, np.zeros(self.num_envs, bool), over, info

    def _begin(self) -> np.ndarray:
        self.swimmer.reset(self.np_random)
        self.step_count = 0
        return self._observe()

    def _observe(self) -> np.ndarray:
        return self.swimmer.observation(self.step_count).astype(np.float32)


def _gymnasium() -> Any:
    try:
        import gymnasium
        import gymnasium.vector
    except ImportError as error:
        raise MissingExtraError("gymnasium is not installed: pip install 'nissl[papers]'") from error
    return gymnasium


def _spaces(body: SwimmerBody) -> tuple[Box, Box]:
    box = _gymnasium().spaces.Box
    seen = box(-np.inf, np.inf, (n_features(body.n_links),), np.float32)
    return seen, box(-1.0, 1.0, (body.n_joints,), np.float32)


def _checked(steps: int) -> int:
    if steps < 1:
        raise InputError(f"steps {steps}; an episode has at least one")
    return int(steps)


def picture(points: Float[np.ndarray, "point 2"], size: int = 240) -> np.ndarray:
    """A body from above, centred: one stroke a link."""
    from PIL import Image, ImageDraw

    span = 1.3 * (len(points) - 1) * 0.1
    at = (points - points.mean(0)) / span * size * [1, -1] + size / 2
    image = Image.new("RGB", (size, size), "#f4f7fa")
    drawn = ImageDraw.Draw(image)
    path = [tuple(p) for p in at]
    drawn.line(path, fill="#0072b2", width=max(2, size // 40), joint="curve")
    x, y = path[0]
    r = size // 45 + 2
    drawn.ellipse((x - r, y - r, x + r, y + r), fill="#d55e00")
    return np.array(image)
