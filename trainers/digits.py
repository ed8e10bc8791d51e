"""Train a robust classifier on the digits of scikit-learn.

python -m trainers.digits --alpha_train=2.0

The recipe's 30 epochs and the evaluation take about 25 s on 2 cores.
"""

from trainers.cli import Command
from trainers.quiet import late
from trainers.settings.config import Experiment

COMMAND = Command(Experiment, late("trainers.runs.run:train"), dataset="digits")

if __name__ == "__main__":
    COMMAND()
