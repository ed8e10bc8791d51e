"""Evaluate a saved classifier on test images under uniform and non-uniform attackers.

python -m trainers.evaluate --model=runs/NAME/best.keras --dataset=mnist --suite=standard --diagnose
"""

from trainers.cli import main
from trainers.config import ModelEvaluation
from trainers.quiet import late

if __name__ == "__main__":
    main(ModelEvaluation, late("trainers.evaluating:evaluate"))
