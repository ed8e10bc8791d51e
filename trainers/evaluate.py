"""Evaluate a saved classifier on test images under uniform and non-uniform attackers.

python -m trainers.evaluate --model=runs/NAME/best.keras --dataset=mnist --suite=standard --diagnose
"""

from trainers.cli import Command
from trainers.quiet import late
from trainers.settings.config import ModelEvaluation

COMMAND = Command(ModelEvaluation, late("trainers.runs.evaluating:evaluate"))

if __name__ == "__main__":
    COMMAND()
