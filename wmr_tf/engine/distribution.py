"""Training and evaluation on several replicas: devices of one machine, or workers that have one or more each.

A replica is one device's copy of the model. Each global batch is split among the replicas. Each replica computes its
part of the mean loss, and TensorFlow adds up the gradients.

Keras 3.15's `fit` has two bugs under MultiWorkerMirroredStrategy, with workarounds here and in `model.py`:
- It builds the model from a batch that is spread over the workers, a PerReplica value, as if it were a tensor. The
  model is built from the first batch before that, see `AdversarialModel._maybe_symbolic_build`.
- It averages scalar logs over the workers along an axis that scalars do not have, see `logs_for_keras`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from wmr_tf.checks import refuse, require


def replicas() -> int:
    """Return the number of replicas of the current distribution strategy, 1 without one."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def workers(strategy: tf.distribute.Strategy) -> int:
    """Return how many processes train together; 1 except under a MultiWorkerMirroredStrategy."""
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict() if resolver else {}
    return max(1, sum(len(cluster.get(job, [])) for job in ("chief", "worker")))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process writes the files: the "chief" of several workers, else worker 0."""
    if workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or not has_chief and resolver.task_id == 0


def check_agreement(strategy: tf.distribute.Strategy, number: int, what: str, *, fix: str) -> None:
    """Check that all workers come with the same number; every one must call it.

    Args:
        strategy: The distribution strategy.
        number: A whole number of this process.
        what: What a message calls it.
        fix: What to do if they differ.

    Raises:
        InvalidInput: In all workers, if one has another number.
    """
    if workers(strategy) == 1:
        return

    @tf.function(autograph=False)
    def spread(mine: tf.Tensor) -> tf.Tensor:
        reduced = (strategy.run(tf.identity, args=(part,)) for part in (mine, mine * mine))
        total, squares = (strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in reduced)
        return strategy.num_replicas_in_sync * squares - total * total  # 0 where all are equal

    differs = int(spread(tf.constant(number, tf.int64))) != 0
    require(not differs, what, got="others than other workers", expected="the same in all of them", fix=fix)


def fraction_of_batch(images: tf.Tensor) -> tf.Tensor | float:
    """Return the fraction of the global batch that is on this replica; the fractions of all replicas sum to 1.

    Args:
        images: This replica's images `[batch, ...]`; a last batch may be split unequally.
    """
    if replicas() == 1 or images.shape[0] is not None:  # a static share is the same everywhere
        return 1.0 / replicas()
    count = tf.cast(tf.shape(images)[0], tf.float32)
    with replicas_exchange():
        return count / tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, count)


def overflown_together(gradients: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """Return a replica's gradients, NaN if those of any replica are not finite, so that all leave the step out.

    Keras looks at the gradients of the first replica alone before it adds them up.
    """
    if replicas() == 1:
        return gradients
    is_finite = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients if gradient is not None]
    context = tf.distribute.get_replica_context()
    overflown = context.all_reduce("sum", tf.cast(tf.logical_not(tf.reduce_all(is_finite)), tf.float32)) > 0
    return [
        None if gradient is None else tf.where(overflown, tf.cast(float("nan"), gradient.dtype), gradient)
        for gradient in gradients
    ]


@contextlib.contextmanager
def replicas_exchange() -> Iterator[None]:
    """Turn TensorFlow's error about an exchange between replicas inside a loop into one that says what to do.

    Raises:
        InvalidInput: If replicas are made to exchange values inside a `tf.while_loop`.
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


def logs_for_keras(logs: dict[str, Any], strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """Return a step's logs in the shape that Keras 3.15 needs: with several workers it averages along a first axis."""
    return logs if workers(strategy) == 1 else {name: tf.convert_to_tensor(value)[None] for name, value in logs.items()}


def is_distributed(data: Any) -> bool:
    """Return whether a data set is already distributed to the replicas."""
    return isinstance(data, tf.distribute.DistributedDataset)


def first_batch_of_replica(data: Any, strategy: tf.distribute.Strategy) -> Any:
    """Return the first batch of a distributed data set as this process's first replica gets it, or None."""
    batch = next(iter(data), None)
    return tf.nest.map_structure(lambda part: strategy.experimental_local_results(part)[0], batch)


def splittable_by_keras(data: Any, strategy: tf.distribute.Strategy) -> Any:
    """Return the data in a form that Keras splits batch by batch among all replicas, in order.

    Every worker reads the same global batches and uses its own part of each, so that together they train on the batches
    of a single device. A batch needs at least one image for each replica: TensorFlow's kernels do not accept an empty
    part.

    Args:
        data: The data passed to `fit` or `evaluate`; a data set that is already distributed is returned unchanged.
        strategy: The distribution strategy.

    Raises:
        InvalidInput: If there are several workers and the data are not a data set; each worker would shuffle them
            differently.
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


def on_every_replica(strategy: tf.distribute.Strategy, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` split over the images among all replicas.

    Args:
        strategy: The distribution strategy.
        function: A `tf.function` that treats each image by itself: of tensors `[images, ...]`, and perhaps scalars, to
            tensors `[images, ...]`.

    Returns:
        A function with the same arguments and results. Every process must call it with the same tensors, and every
        process gets the results of all images, in order.
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
            # Padded to equal parts with the first images; their second results are dropped.
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
