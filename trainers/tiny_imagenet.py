"""Train a robust classifier on Tiny ImageNet, from its official archive.

python -m trainers.tiny_imagenet --data_dir=FOLDER_OF_THE_ARCHIVE

The recipe (trainers/settings/recipes.py says what of it is the paper's) has 100 epochs with attacks of 10 steps: weeks
on a CPU, a task for a GPU. The network is the ResNet-18 of CIFAR-10 on images of 64 x 64 and with 200 logits: its first
convolution keeps the size of the image, its last stage is 8 x 8, and the global average takes any size.
"""

from trainers.cli import Command
from trainers.quiet import late
from trainers.settings.config import Experiment

COMMAND = Command(Experiment, late("trainers.runs.run:train"), dataset="tiny_imagenet")

if __name__ == "__main__":
    COMMAND()
