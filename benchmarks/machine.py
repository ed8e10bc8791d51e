"""What a measurement depends on besides the code: processor, load and versions."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

from benchmarks.worker import THREADS

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


def facts() -> dict[str, str]:
    """Return what to print above the tables."""
    cpu = _cpuinfo()
    flags = cpu.get("flags", "").split()
    return {
        "Date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "Processor": f"{cpu.get('model name', platform.processor() or 'unknown')}, {os.cpu_count()} cores, "
        f"{THREADS} threads used",
        "Features found": ", ".join(name for name in FEATURES if name in flags) or "unknown",
        "Not found": ", ".join(name for name in FEATURES if name not in flags),
        "Load before": f"{os.getloadavg()[0]:.2f} over a minute; on a busy machine the figures are worth nothing",
        "Versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in PACKAGES)]
        ),
    }


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
