"""Train a robust classifier on digits.

python -m trainers.digits --alpha_train=2.0
"""

from trainers.cli import main
from trainers.config import Experiment
from trainers.run import train

if __name__ == "__main__":
    main(Experiment, train, dataset="digits")
