"""Which workers train together, as TF_CONFIG says; known before TensorFlow is there."""

import json
import re
from typing import Any

from wmr_tf.checks import require

STRATEGIES = ("none", "mirrored", "multi_worker")

_FIX = (
    'Set it on each worker, such as {"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}; the index is that of the worker in the list.'
)


class LostWorker(RuntimeError):
    """Several workers trained together and cannot go on; command-line tools print it and exit with status 1."""


def checked_tf_config(text: str | None) -> dict[str, Any]:
    """Return the content of TF_CONFIG.

    Raises:
        InvalidInput: If it does not name the workers and which of them this process is.
    """
    try:
        config = json.loads(text or "")
    except ValueError:
        config = None
    got, expected = repr(text) if text else "nothing", "JSON with a cluster of workers and this one's task"
    is_complete = isinstance(config, dict) and {"cluster", "task"} <= set(config)
    require(is_complete, "TF_CONFIG", got=got, expected=expected, fix=_FIX)
    cluster, task = config["cluster"], config["task"]
    require(
        isinstance(cluster, dict)
        and set(cluster) <= {"chief", "worker"}
        and bool(cluster)
        and all(isinstance(jobs, list) and jobs and all(map(_is_address, jobs)) for jobs in cluster.values()),
        "TF_CONFIG",
        got=f"the cluster {json.dumps(cluster)}",
        expected='lists of "host:port" under "worker" and perhaps "chief"',
        fix=_FIX,
    )
    is_task = isinstance(task, dict) and task.get("type") in cluster and isinstance(task.get("index"), int)
    require(
        is_task and 0 <= task["index"] < len(cluster[task["type"]]),
        "TF_CONFIG",
        got=f"the task {json.dumps(task)}",
        expected=f"one of the cluster's, {', '.join(f'{job} 0 to {len(jobs) - 1}' for job, jobs in cluster.items())}",
        fix=_FIX,
    )
    return config


def _is_address(address: Any) -> bool:
    return isinstance(address, str) and re.fullmatch(r"[^:\s]+:\d+|\[[^\]\s]+\]:\d+", address) is not None
