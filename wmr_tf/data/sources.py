"""The data sets by name, and one's own by their address; known without TensorFlow."""

import os
from collections.abc import Iterable

from wmr_tf.data import own
from wmr_tf.data.digits import DIGITS
from wmr_tf.data.prepared import CIFAR10, MNIST
from wmr_tf.data.source import Source
from wmr_tf.data.tiny_imagenet import TINY_IMAGENET

SOURCES: dict[str, Source] = {"digits": DIGITS, "mnist": MNIST, "cifar10": CIFAR10, "tiny_imagenet": TINY_IMAGENET}
"""The data sets that have a name."""


def info(
    name: str,
    *,
    image_size: Iterable[int] | None = None,
    color: str | None = None,
    skip_broken: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> Source:
    """Return a data set with its facts (`num_classes`, `image_shape`, ...), without loading it.

    Args:
        name: One of "digits", "mnist", "cifar10", "tiny_imagenet", or the path of images of your own: a folder with one
            subfolder a class, or with subfolders `train`, `test` and `validation` (or `val`) of such; or an .npz file
            with `x_train`, `y_train`, `x_test` and `y_test`; or "tfds:NAME", any set of tensorflow-datasets whose
            features are an image and a label, from a prepared copy.
        image_size: One number of pixels, or height and width, to which the images of a folder or of tfds:NAME are
            resized; None leaves them as they are, all alike.
        color: "rgb" or "grayscale", into which they are turned; None is "rgb", and for tfds:NAME what they are.
        skip_broken: Whether those that cannot be read are left out, with a warning.
        data_dir: Where tensorflow-datasets keeps prepared data, of which tfds:NAME is one; None for its default folder.

    Returns:
        The data set, which `load` takes in place of a name.

    Raises:
        InvalidInput: If there is no such data set, or it is not what it should be.

    Example:
        >>> info("mnist").image_shape
        (28, 28, 1)
    """
    address = own.address(name)
    if own.is_own(address):
        return own.source(address, image_size=image_size, color=color, skip_broken=skip_broken, data_dir=data_dir)
    own.refuse_options(address, image_size=image_size, color=color, skip_broken=skip_broken)
    return SOURCES[address]
