"""wmr_tf with TensorFlow's own threads: the batch as a whole, all cores for each kernel."""

from benchmarks.libraries.wmr_tf import step_of as prepare

__all__ = ["EAGER", "prepare"]

EAGER = False
