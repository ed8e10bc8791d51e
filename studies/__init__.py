"""Measurements of this library itself: `python -m studies.digits`. Not installed: run them from the repository."""

from trainers.quiet import import_tensorflow

import_tensorflow()
