"""The process that trains: verl's own entry point, with :class:`asymgrpo.training.verl.trainer.Trainer` as its trainer.

Started by :mod:`asymgrpo.training.verl.launch` as ``python -m asymgrpo.training.verl.main <Hydra overrides>``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import ray
from verl.trainer import main_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

# Ray has made the class an actor; what is wanted is the class
_TaskRunner = main_ppo.TaskRunnerV1.__ray_metadata__.modified_class


class TaskRunner(_TaskRunner):  # type: ignore[misc, valid-type]
    """verl's task runner, which finds our trainer under the name of its synchronous one."""

    def run(self, config: Any) -> None:
        """Replace the trainer in this process, where it is looked up, then run."""
        from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

        from asymgrpo.training.verl.trainer import Trainer

        TRAINER_REGISTRY["sync"] = Trainer
        super().run(config)


@hydra.main(config_path=str(Path(main_ppo.__file__).parent / "config"), config_name="ppo_trainer", version_base=None)
def main(config: Any) -> None:
    """Check the configuration with verl's own rules, then train."""
    auto_set_device(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    main_ppo.run_ppo(config, task_runner_class=ray.remote(TaskRunner))


if __name__ == "__main__":
    main()
