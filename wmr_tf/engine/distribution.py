"""What training and evaluation on several replicas need: devices of one machine, or workers that each have some.

A replica is one device's copy of the model. A batch is the global one, shared out among the replicas; each of them
takes its own part of the losses' mean, and TensorFlow adds up the gradients.

Keras 3.15's `fit` has two faults under MultiWorkerMirroredStrategy, and both are got round here and in `model.py`:
it builds the model from a batch that is spread over the workers, a PerReplica value, which it takes for a tensor (the
model is built from the first batch beforehand, see `AdversarialModel._maybe_symbolic_build`); and it averages scalar
logs over the workers along an axis that they do not have (see `as_keras_reduces`).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from wmr_tf.checks import refuse, require


def replicas() -> int:
    """Return how many replicas the strategy in whose scope, or replica, this is called keeps in step; 1 without."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def workers(strategy: tf.distribute.Strategy) -> int:
    """Return how many processes train together; 1 but for a MultiWorkerMirroredStrategy."""
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict() if resolver else {}
    return max(1, sum(len(cluster.get(job, [])) for job in ("chief", "worker")))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process is the one whose files stay; of several workers the job "chief", or worker 0."""
    if workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or not has_chief and resolver.task_id == 0


def share_of_batch(images: tf.Tensor) -> tf.Tensor | float:
    """Return which fraction of the global batch this replica's images are, so that the fractions add up to 1.

    Args:
        images: The replica's share `[batch, ...]`; a last batch may be shared out unequally.
    """
    if replicas() == 1 or images.shape[0] is not None:  # a static share is the same everywhere
        return 1.0 / replicas()
    count = tf.cast(tf.shape(images)[0], tf.float32)
    with meeting_point():
        return count / tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, count)


@contextlib.contextmanager
def meeting_point() -> Iterator[None]:
    """Say clearly that replicas can exchange nothing inside a loop, if that is where they are to do so.

    Raises:
        InvalidInput: If a method asks for it in a `tf.while_loop`.
    """
    try:
        yield
    except RuntimeError as error:
        refuse(
            "method",
            got="a loop over passes in which the replicas would have to meet, for BatchNorm's statistics or to count a "
            "batch of unknown size",
            expected="one replica",
            fix="Train it without a distribution strategy, choose another method, or a network without BatchNorm and "
            "batches with drop_remainder=True.",
            cause=error,
        )


def as_keras_reduces(logs: dict[str, Any], strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """Return a step's logs with the axis along which Keras 3.15 averages over several workers."""
    return logs if workers(strategy) == 1 else {name: tf.convert_to_tensor(value)[None] for name, value in logs.items()}


def is_distributed(data: Any) -> bool:
    """Return whether a data set has been shared out among the replicas already."""
    return isinstance(data, tf.distribute.DistributedDataset)


def first_share(data: Any, strategy: tf.distribute.Strategy) -> Any:
    """Return what the first replica of this process gets of the first batch of a shared-out data set, or None."""
    batch = next(iter(data), None)
    return tf.nest.map_structure(lambda part: strategy.experimental_local_results(part)[0], batch)


def to_share_out(data: Any, strategy: tf.distribute.Strategy) -> Any:
    """Return the data such that Keras shares each batch out among all replicas, in order.

    Every worker reads the same global batches and takes its own part of each, so that together they train on what one
    device would. A batch needs an image for each replica: TensorFlow's kernels do not take an empty share.

    Args:
        data: What `fit` or `evaluate` was given; a data set that is shared out already stays as it is.
        strategy: How many replicas there are, and where.

    Raises:
        InvalidInput: If there are several workers and the data are no data set, which each would shuffle by itself.
    """
    several = workers(strategy) > 1
    require(
        not several or is_distributed(data) or isinstance(data, tf.data.Dataset),
        "data",
        got=f"{type(data).__name__} with {workers(strategy)} workers",
        expected="a tf.data.Dataset, of the same batches in the same order on every worker",
        fix="Make one of it: tf.data.Dataset.from_tensor_slices(...).shuffle(examples, seed=0).batch(batch_size).",
    )
    count = strategy.num_replicas_in_sync
    if count == 1 or not isinstance(data, tf.data.Dataset):
        return data
    options = tf.data.Options()
    # By images, not by files: the only policy under which the workers' parts make up the batches of one device.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return data.map(lambda *batch: _with_an_image_each(batch, count)).with_options(options)


def shared(strategy: tf.distribute.Strategy, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes image by image, such that each replica computes its share.

    Args:
        strategy: Whose replicas.
        function: A `tf.function` of tensors `[images, ...]`, and perhaps scalars, that returns tensors `[images, ...]`.

    Returns:
        A function of the same tensors, which must be the same in every process, with the same results: for all images,
        in order, in every process.
    """
    count = strategy.num_replicas_in_sync
    if count == 1:
        return function

    @tf.function(autograph=False)
    def on_replica(*arguments: tf.Tensor) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        return [context.all_gather(result, axis=0) for result in function(*arguments)]

    def on_all(*arguments: tf.Tensor) -> list[tf.Tensor]:
        images = len(arguments[0])
        size = -(-images // count)

        def share(argument: tf.Tensor) -> Any:
            if argument.shape.rank == 0:
                return argument
            # Filled up to equal shares with the first images again, whose second results are left out.
            filled = tf.gather(argument, tf.range(size * count) % images)
            return strategy.experimental_distribute_values_from_function(
                lambda context: filled[context.replica_id_in_sync_group * size :][:size]
            )

        results = strategy.run(on_replica, args=tuple(map(share, arguments)))
        return [strategy.experimental_local_results(result)[0][:images] for result in results]

    return on_all


def _with_an_image_each(batch: tuple[Any, ...], count: int) -> Any:
    images = tf.shape(tf.nest.flatten(batch)[0])[0]
    message = f"data: got a batch with fewer images than the {count} replicas, expected at least one for each. "
    check = tf.debugging.assert_greater_equal(images, count, message + "Batch with drop_remainder=True.")
    with tf.control_dependencies([check]):
        return tf.nest.map_structure(tf.identity, batch if len(batch) > 1 else batch[0])
