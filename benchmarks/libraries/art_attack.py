"""The attack that both trainers of the Adversarial Robustness Toolbox are given."""

from typing import Any

from art.attacks.evasion import ProjectedGradientDescent

from benchmarks.task import Task


def pgd(task: Task, classifier: Any) -> ProjectedGradientDescent:
    """Return PGD on the cross-entropy from a uniform start, the whole batch at once (its default is 32 images)."""
    return ProjectedGradientDescent(
        classifier,
        eps=task.epsilon,
        eps_step=task.step_size,
        max_iter=task.steps,
        num_random_init=1,
        batch_size=task.size,
        verbose=False,
    )
