"""What this machine has, by its own files: known without TensorFlow, which takes seconds to import."""

import os
from pathlib import Path

CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")

DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))
"""What the drivers of GPUs make: NVIDIA's, AMD's, and Windows' for Linux within it."""


def processor_facts() -> dict[str, str]:
    """Return what the system says of the first core, such as its "model name" and its "flags"; on Linux only."""
    lines = CPUINFO.read_text().split("\n\n")[0].splitlines() if CPUINFO.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def multiplies_bfloat16() -> bool:
    """Return whether the processor multiplies matrices in bfloat16: AVX512-BF16 or AMX; on ARM, bf16."""
    features = CPUINFO.read_text().split() if CPUINFO.exists() else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(features)


def available_cores() -> int:
    """Return the number of processor cores that this process may use: those that it is bound to, or fewer if told so.

    It is told by TensorFlow's own environment variable TF_NUM_INTEROP_THREADS.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("TF_NUM_INTEROP_THREADS", "")
    return min(cores, int(told)) if told.isdigit() and int(told) else cores


def may_have_gpu() -> bool:
    """Return whether there is a driver of GPUs, so that TensorFlow may find one."""
    return any(driver.exists() for driver in DRIVERS)


def total_memory() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_memory() -> int | None:
    """Return the bytes of memory that a process could still get, None where the system does not say."""
    lines = MEMINFO.read_text().splitlines() if MEMINFO.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
