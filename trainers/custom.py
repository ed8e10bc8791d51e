"""Train a robust classifier on images of your own.

python -m trainers.custom --data=photos --image_size=32 --epsilon=0.031
python -m trainers.custom --data=photos.npz --classifier=my.keras --method=pgd

The data are a folder with one subfolder a class, an .npz file or tfds:NAME; the network is one of ours, chosen by the
size of the images, or yours, trained from its weights. The defaults are a start, not tuned for your images: choose
--epsilon first, as the largest change that no person would mind. The test attack has the same radius unless
--eval_epsilon is given, and step sizes follow the radii.
"""

from trainers.cli import Command
from trainers.quiet import late
from trainers.settings.config import Experiment
from trainers.settings.recipes import OWN

COMMAND = Command(Experiment, late("trainers.runs.run:train"), shown=OWN)

if __name__ == "__main__":
    COMMAND()
