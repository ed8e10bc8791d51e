"""Train a robust classifier on mnist.

python -m trainers.mnist --alpha_train=2.0
"""

from trainers.cli import main
from trainers.config import Experiment
from trainers.run import train

if __name__ == "__main__":
    main(Experiment, train, dataset="mnist")
