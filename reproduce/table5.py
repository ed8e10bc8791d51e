"""Make Table 5 of the paper: Tiny ImageNet under uniform attacks.

python -m reproduce.table5 --budget=quarter --seeds=0,1,2

Its models are those of Table 3, where both have the row: they are trained once. With an archive of fewer images say how
many there are to train on: --train_examples=9000 --data_dir=FOLDER.
"""

from reproduce.settings import Reproduction
from trainers.cli import Command
from trainers.quiet import late

COMMAND = Command(Reproduction, late("reproduce.making:make", tensorflow=False), table=5)

if __name__ == "__main__":
    COMMAND()
