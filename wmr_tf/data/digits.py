"""scikit-learn's handwritten digits: 1,797 images of 8 x 8 that come with the package, so no network is needed."""

from pathlib import Path

import numpy as np

from wmr_tf.data.source import Arrays, Source


def _read(data_dir: Path | None) -> Arrays:
    del data_dir  # the images are inside scikit-learn
    from sklearn.datasets import load_digits  # slow to import, and only this data set needs it
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., np.newaxis]  # whole numbers 0..16
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=len(images) // 3, stratify=digits.target, random_state=0
    )
    return Arrays(train_images, train_labels, test_images, test_labels)


DIGITS = Source(_read, num_classes=10, image_shape=(8, 8, 1), scale=16)
