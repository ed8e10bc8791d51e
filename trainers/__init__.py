"""Command-line trainers: `python -m trainers.mnist --alpha_train=2.0`."""

from trainers.quiet import import_tensorflow

import_tensorflow()
