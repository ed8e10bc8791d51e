"""TensorFlow's start-up: late, and without the lines that tell nothing."""

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

# What TensorFlow 2.21 prints on every start of a machine without a GPU, whatever TF_CPP_MIN_LOG_LEVEL says.
_SAYS_NOTHING = ("absl::InitializeLog", "oneDNN custom operations are on", "Could not find cuda drivers", "cuInit")


def late(name: str, *, tensorflow: bool = True) -> Callable[..., Any]:
    """Return a function of a module that takes long to import, which is done when it is called.

    Args:
        name: Of module and function, such as "trainers.runs.run:train".
        tensorflow: Whether it needs TensorFlow.

    Example:
        >>> late("wmr_tf.data:info")("mnist").image_shape
        (28, 28, 1)
    """

    def called(*arguments: Any, **settings: Any) -> Any:
        if tensorflow:
            import_tensorflow()
        return pkgutil.resolve_name(name)(*arguments, **settings)

    return called


def import_tensorflow() -> None:
    """Import TensorFlow and with it the library, without the known lines of its C++ side that tell nothing."""
    if "tensorflow" not in sys.modules:  # else they have been printed
        with _kept_for_good():
            _import_quietly()
    importlib.import_module("wmr_tf.model")  # which registers our classes with Keras


@contextlib.contextmanager
def _kept_for_good() -> Iterator[None]:
    """Have Python's garbage collector pass over what the block makes, and over everything when the process ends.

    It would go through the half million objects of the imports again and again, and once more at the end, which takes a
    second and a half.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)


def _import_quietly() -> None:
    """Import TensorFlow and look for devices."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if platform.machine() in ("x86_64", "AMD64"):  # TensorFlow does so itself, but with AVX2 alone it does not
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        os.dup2(printed.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            printed.seek(0)
            sys.stderr.writelines(line for line in printed if not any(known in line for known in _SAYS_NOTHING))
