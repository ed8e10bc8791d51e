"""Train a robust classifier on CIFAR-10.

python -m trainers.cifar10 --alpha_train=2.0

The recipe (trainers/settings/recipes.py says what of it is the paper's) has 100 epochs of a ResNet-18 with attacks of
10 steps: days on a CPU, a task for a GPU.
"""

from trainers.cli import Command
from trainers.quiet import late
from trainers.settings.config import Experiment

COMMAND = Command(Experiment, late("trainers.runs.run:train"), dataset="cifar10")

if __name__ == "__main__":
    COMMAND()
