"""Evaluate a saved classifier on test images under uniform and non-uniform attackers.

python -m trainers.evaluate --model=runs/NAME/best.keras --dataset=mnist --suite=standard --diagnose
"""

import functools

from trainers.cli import main
from trainers.quiet import late
from trainers.settings.config import ModelEvaluation

COMMAND = functools.partial(main, ModelEvaluation, late("trainers.runs.evaluating:evaluate"))

if __name__ == "__main__":
    COMMAND()
