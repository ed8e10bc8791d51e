"""Classifiers of images in [0, 1] that return float32 logits: plain Keras models made of stock layers only."""

from wmr_tf.architectures.digits import digits_cnn
from wmr_tf.architectures.resnet import resnet18, resnet20
from wmr_tf.architectures.small_cnn import small_cnn
from wmr_tf.architectures.thin_resnet import thin_resnet
from wmr_tf.architectures.wide_resnet import wide_resnet_34_10

__all__ = ["digits_cnn", "resnet18", "resnet20", "small_cnn", "thin_resnet", "wide_resnet_34_10"]
