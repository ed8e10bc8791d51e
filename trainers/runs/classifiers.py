"""The classifier of a run, and what a saved one must be, to be evaluated on a data set or trained further."""

import warnings

import keras
import numpy as np
import tensorflow as tf

from trainers.settings.config import Experiment
from wmr_tf import architectures
from wmr_tf.architectures.applications import application
from wmr_tf.checks import InvalidInput, one_line, refuse, require
from wmr_tf.engine import machine
from wmr_tf.evaluation import ranges
from wmr_tf.inputs.batches import LOOKED_AT, check_first_batch
from wmr_tf.names import APPLICATION
from wmr_tf.saving import load_classifier


def make_classifier(experiment: Experiment) -> keras.Model:
    """Return what a run trains: a new network for the images and classes, or the classifier of a file.

    It has the weights of `initialize_from` if that is given.

    Raises:
        InvalidInput: If a file is of a classifier for images of another shape, or for other classes.
    """
    source = experiment.source()
    if experiment.is_own_classifier:
        classifier = load_classifier(experiment.architecture, what="classifier", trust=experiment.trust)
        black = tf.zeros([LOOKED_AT, *source.image_shape]), tf.zeros([LOOKED_AT], tf.int32)
        check_fits(classifier, tf.data.Dataset.from_tensors(black), source.num_classes)
    elif experiment.is_application:
        name = experiment.architecture.removeprefix(APPLICATION)
        classifier = application(name, source.num_classes, source.image_shape)
    else:
        build = getattr(architectures, experiment.architecture)
        classifier = build(num_classes=source.num_classes, input_shape=source.image_shape)
    if experiment.initialize_from is not None:
        copy_weights(load_classifier(experiment.initialize_from, trust=experiment.trust), classifier)
    return classifier


def warn_of_range(classifier: keras.Model, data: tf.data.Dataset) -> None:
    """Warn of a classifier that is far more accurate on images in another range, by the first ones of a data set."""
    few = list(data.unbatch().take(ranges.LOOKED_AT).batch(LOOKED_AT))
    for found in ranges.other_range(lambda images, _: np.asarray(classifier(images, training=False)), few):
        warnings.warn(found["message"], stacklevel=2)


def check_fits(classifier: keras.Model, test: tf.data.Dataset, num_classes: int) -> None:
    """Check that a classifier takes the images of a data set and returns logits for its classes.

    Args:
        classifier: Any Keras model.
        test: Batches of images and labels.
        num_classes: How many classes there are.

    Raises:
        InvalidInput: If it was made for images of another shape, for other classes, or returns no logits.
    """
    expected, got = tuple(test.element_spec[0].shape[1:]), input_shape(classifier)
    fix = "Choose the --data that it was trained on, or change images of your own by --image_size and --color."
    require(
        got is None or len(got) == len(expected) and all(a in (None, b) for a, b in zip(got, expected, strict=True)),
        "model",
        got=f"a classifier of images of shape {got}",
        expected=f"images of shape {expected}",
        fix=fix,
    )
    batch = next(iter(test))
    _check_memory(classifier, batch[0].shape[1:])
    try:
        classes = check_first_batch(classifier, batch)
    except InvalidInput as mistake:
        if mistake.__cause__ is None:
            raise
        # A layer failed; on the command line it is the data set that does not fit.
        failure = f"a failure on a batch of images ({one_line(mistake.__cause__)})"
        refuse("model", got=failure, expected=f"logits for shape {expected}", fix=fix, cause=mistake)
    got_classes = f"a classifier of {classes} classes"
    require(classes == num_classes, "model", got=got_classes, expected=f"{num_classes}", fix=fix)


def _check_memory(classifier: keras.Model, shape: tf.TensorShape) -> None:
    """Check that no layer makes more of the images it is first looked at with than this machine has memory for."""
    spec = tf.TensorSpec([LOOKED_AT, *shape], tf.float32)
    try:
        graph = tf.function(classifier, autograph=False).get_concrete_function(spec, training=False).graph
    except Exception:  # which is told of when it is called
        return
    outputs = (output for operation in graph.get_operations() for output in operation.outputs)
    largest = max(output.shape.num_elements() or 0 for output in outputs) * 4
    memory = machine.total_memory()
    require(
        largest < memory,
        "model",
        got=f"a layer that makes {largest / 1e9:,.0f} GB of {LOOKED_AT} images",
        expected=f"less than this machine's memory, {memory / 1e9:,.0f} GB",
        fix="Name another model.",
    )


def input_shape(classifier: keras.Model) -> tuple[int | None, ...] | None:
    """Return the shape of the images that a classifier takes, None if it does not say, as a subclassed model."""
    try:
        shape = classifier.input_shape
    except (AttributeError, ValueError, RuntimeError):
        return None
    return shape[1:] if isinstance(shape, tuple) else None


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy all weights from a classifier of the same architecture, but those of the last layer if it is for others.

    The user is warned of a last layer that stays new.

    Raises:
        InvalidInput: If it is of another architecture.
    """
    head = target.layers[-1]
    before = [weight for weight in target.weights if not any(weight is each for each in head.weights)]
    shapes = [[tuple(weight.shape) for weight in weights] for weights in (source.weights, target.weights, before)]
    of_source, of_target, of_features = shapes
    is_whole = of_source == of_target
    require(
        is_whole or of_source[: len(of_features)] == of_features,
        "initialize_from",
        got=f"a model with {len(of_source)} weights of other shapes",
        expected=f"the {len(of_target)} weights of {target.name}",
        fix="Name a classifier of the same architecture, for images of the same size and channels.",
    )
    for weight, value in zip(target.weights if is_whole else before, source.get_weights(), strict=False):
        weight.assign(value)
    if not is_whole:
        told = f"initialize_from: the last layer of {target.name} is new, since that of the file is for other classes"
        warnings.warn(f"{told}.", stacklevel=2)
