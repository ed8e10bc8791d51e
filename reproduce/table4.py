"""Make Table 4 of the paper: CIFAR-10 under uniform attacks.

python -m reproduce.table4 --budget=quarter --seeds=0,1,2

Its models are those of Table 2, where both have the row: they are trained once.
"""

from reproduce.settings import Reproduction
from trainers.cli import Command
from trainers.quiet import late

COMMAND = Command(Reproduction, late("reproduce.making:make", tensorflow=False), table=4)

if __name__ == "__main__":
    COMMAND()
