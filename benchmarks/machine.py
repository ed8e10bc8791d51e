"""What a measurement depends on besides the code: processor, load and versions."""

import datetime
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable

from benchmarks.worker import CORES
from wmr_tf.engine.machine import processor_facts

FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16")
PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "torch",
    "adversarial-robustness-toolbox",
    "cleverhans",
    "foolbox",
    "torchattacks",
)
QUIET = 0.3
"""Load over a minute below which a machine counts as quiet."""
PATIENCE = 10
"""Minutes to wait for that."""


def wait_until_quiet(busy: bool, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> str:
    """Return the load at the start, in words, once it is low; end the program with status 2 if it stays high.

    Args:
        busy: Measure whatever the load.
        say: Takes a line a minute while it waits.
        sleep: Waits for so many seconds.
    """
    for minute in range(PATIENCE + 1):
        load = os.getloadavg()[0]
        if busy:
            return (
                f"{load:.2f} over a minute; told not to wait for a quiet machine, so the figures may be worth nothing"
            )
        if load < QUIET:
            return f"{load:.2f} over a minute, below {QUIET} as required"
        if minute < PATIENCE:
            say(f"Load {load:.2f} over a minute: waiting until it is below {QUIET}, {minute} of {PATIENCE} minutes")
            sleep(60)
    fault = f"load: got {load:.2f} over a minute after {PATIENCE} minutes, expected below {QUIET}."
    print(f"{fault} Stop what else runs, or measure all the same with --busy.", file=sys.stderr)
    sys.exit(2)


def facts(load: str) -> dict[str, str]:
    """Return what to print above the tables; `load` is what `wait_until_quiet` said."""
    cpu = processor_facts()
    flags = cpu.get("flags", "").split()
    return {
        "Date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "Processor": f"{cpu.get('model name', platform.processor() or 'unknown')}, {CORES} cores, all used",
        "Features found": ", ".join(name for name in FEATURES if name in flags) or "unknown",
        "Not found": ", ".join(name for name in FEATURES if name not in flags),
        "Load at the start": load,
        "Versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in PACKAGES)]
        ),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
