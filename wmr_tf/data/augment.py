"""Random crops and flips of a batch, as vectorised gathers."""

import tensorflow as tf

PADDING = 4


def crop_and_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return each image shifted by up to four pixels each way, zeros moving in, and mirrored with probability 1/2.

    Args:
        images: [batch, height, width, channels], any numeric type.
        seed: Integers [2]; the same seed gives the same crops and flips.

    Returns:
        [batch, height, width, channels], of the type of `images`.

    Example:
        >>> crop_and_flip(tf.ones([2, 32, 32, 3]), seed=[0, 1]).shape
        TensorShape([2, 32, 32, 3])

    Source: the usual CIFAR-10 augmentation (He et al., 2016, section 4.2).
    """
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    shift_seed, flip_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    corner = tf.random.stateless_uniform([2, batch, 1], shift_seed, maxval=2 * PADDING + 1, dtype=tf.int32)
    flip = tf.random.stateless_uniform([batch, 1], flip_seed) < 0.5
    rows = corner[0] + tf.range(height)
    columns = corner[1] + tf.where(flip, tf.range(width)[::-1], tf.range(width))
    padded = tf.pad(images, [[0, 0], [PADDING, PADDING], [PADDING, PADDING], [0, 0]])
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.ensure_shape(cropped, images.shape)
