"""Command-line trainers: `python -m trainers.mnist --alpha_train=2.0`."""
