"""Bodies that swim in the plane, and what it takes to let a policy move them."""

from typing import TYPE_CHECKING, Any

from nissl.learning.bodies._body import SwimmerBody
from nissl.learning.bodies.mujoco import MujocoSwimmer
from nissl.learning.bodies.planar import PlanarSwimmer
from nissl.learning.bodies.policies import SwimmerPolicy, mlp_policy
from nissl.learning.bodies.swimming import swim
from nissl.learning.bodies.waves import wave_lags

if TYPE_CHECKING:
    from nissl.learning.bodies.gym import SwimmerEnv, SwimmerVectorEnv

__all__ = [
    "MujocoSwimmer",
    "PlanarSwimmer",
    "SwimmerBody",
    "SwimmerEnv",
    "SwimmerPolicy",
    "SwimmerVectorEnv",
    "mlp_policy",
    "swim",
    "wave_lags",
]


def __getattr__(name: str) -> Any:
    # These are gymnasium's classes underneath, and gymnasium is optional.
    if name in ("SwimmerEnv", "SwimmerVectorEnv"):
        from nissl.learning.bodies import gym

        return getattr(gym, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
