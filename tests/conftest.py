"""Every test starts from the same random state and Keras settings, and leaves nothing behind."""

import gc
import os
import shutil
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

# Random cases are the same in every run, few, and as slow as the first one, which makes a graph.
hypothesis.settings.register_profile("wmr_tf", database=None, deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("wmr_tf")

# A shell has what it starts in the background ignore SIGINT, and so do the processes that are started by that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# All of these are read once, when the library is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in a command
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")  # one stream also where a command is run within the process
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread each, and in the processes they start
    for threads in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(threads, "1")


def _keep_kernels():
    """Keep TensorFlow from forgetting its compiled kernels whenever Keras is seeded or cleared.

    Most tests use the same kernels; making them again took about 25 ms a test. What is lost is the restart of
    TensorFlow's stateful random numbers at each seed; nothing here draws any.
    """
    from tensorflow.python import pywrap_tfe

    pywrap_tfe.TFE_ContextClearCaches = lambda context: None


def pytest_collection_finish():
    """Take what the imports made out of every collection of garbage: there is so much that one takes a second.

    Python collects in the midst of tracing, Keras Tuner twice a trial. It made half of the tests' time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Seed Python, NumPy and TensorFlow before each test; afterwards restores float32 and forgets Keras's names."""
    # Not imported here: a test of plain Python should not wait for TensorFlow.
    if keras := sys.modules.get("keras"):
        _keep_kernels()
        keras.utils.set_random_seed(0)
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_dtype_policy("float32")
        keras.utils.clear_session(free_memory=False)  # collecting garbage after each test would cost more than it frees


@pytest.fixture(autouse=True, scope="module")
def _collect_garbage():
    """Free a file's models and graphs after it: they refer to themselves, and Python takes long to notice."""
    yield
    gc.collect()
    gc.freeze()  # what is left stays, as what the imports made does


@pytest.fixture(scope="session")
def tfds_dir() -> Path:
    """The folder where tensorflow-datasets has MNIST and CIFAR-10 prepared; the test is skipped where there is none."""
    beside_the_repository = Path(__file__).resolve().parents[2] / "shared" / "tfds"
    folder = Path(os.environ.get("TFDS_DATA_DIR", beside_the_repository))
    if not folder.is_dir():
        pytest.skip(f"no prepared data: neither TFDS_DATA_DIR nor {beside_the_repository} is a folder")
    return folder


@pytest.fixture(scope="module")
def browser():
    """A headless browser; the test is skipped where there is none."""
    chromium, driver_of_it = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver_of_it):
        pytest.skip("no chromium and chromedriver")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(driver_of_it))
    yield driver
    driver.quit()


@pytest.fixture
def bars(monkeypatch):
    """Let progress be drawn as on a terminal, after every step."""
    from wmr_tf.engine import progress

    monkeypatch.setattr(progress, "writes_over", lambda: True)
    monkeypatch.setattr(progress, "REDRAWN", -1)
