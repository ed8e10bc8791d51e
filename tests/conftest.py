"""Every test starts from the same random state and Keras settings, and leaves nothing behind."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when TensorFlow is imported


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Seed Python, NumPy and TensorFlow before each test; afterwards restores float32 and forgets Keras's names."""
    # Not imported here: a test of plain Python should not wait for TensorFlow.
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_dtype_policy("float32")
        keras.utils.clear_session(free_memory=False)  # collecting garbage after each test would cost more than it frees


@pytest.fixture(scope="session")
def tfds_dir() -> Path:
    """The folder where tensorflow-datasets has MNIST and CIFAR-10 prepared; the test is skipped where there is none."""
    beside_the_repository = Path(__file__).resolve().parents[2] / "shared" / "tfds"
    folder = Path(os.environ.get("TFDS_DATA_DIR", beside_the_repository))
    if not folder.is_dir():
        pytest.skip(f"no prepared data: neither TFDS_DATA_DIR nor {beside_the_repository} is a folder")
    return folder
