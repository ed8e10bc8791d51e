"""Make Table 1 of the paper: MNIST under non-uniform attacks.

python -m reproduce.table1 --budget=quarter --seeds=0,1,2

A budget is training time for each model on two cores of the machine of results/speed.md: minutes (3), quarter (15),
hour, evening (4 hours) or paper, the recipe word for word. Finished rows are kept, a row that was stopped goes on, and
one more seed adds to what is there; --rows=none only renders what is there.
"""

from reproduce.settings import Reproduction
from trainers.cli import Command
from trainers.quiet import late

COMMAND = Command(Reproduction, late("reproduce.making:make", tensorflow=False), table=1)

if __name__ == "__main__":
    COMMAND()
