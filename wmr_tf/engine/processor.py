"""What this machine has, by its own files: known without TensorFlow, which takes seconds to import."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))
"""What the drivers of GPUs make: NVIDIA's, AMD's, and Windows' for Linux within it."""


def facts() -> dict[str, str]:
    """Return what the system says of the first core, such as its "model name" and its "flags"; on Linux only."""
    lines = CPUINFO.read_text().split("\n\n")[0].splitlines() if CPUINFO.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def may_have_gpu() -> bool:
    """Return whether there is a driver of GPUs, so that TensorFlow may find one."""
    return any(driver.exists() for driver in DRIVERS)


def multiplies_bfloat16() -> bool:
    """Return whether the processor multiplies matrices in bfloat16: AVX512-BF16 or AMX; on ARM, bf16."""
    features = CPUINFO.read_text().split() if CPUINFO.exists() else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(features)
