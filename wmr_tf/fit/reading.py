"""Where a `fit` is in its training data, and how another process comes there."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from wmr_tf.checks import one_line, refuse, require
from wmr_tf.data.pipeline import place_of, places_behind

# What is private to Keras and TensorFlow and used here: `_get_iterator` of Keras's object that makes the iterators of a
# `fit`, and `_iterator_resource`, which holds the state of a `tf.data.Iterator`.


class Reading:
    """The training data of a `fit` that is stopped and gone on with.

    Data with addresses begin where they are told; what is derived from them begins with the epoch, and the batches that
    were trained on are read again. Of others as many iterators are made as there were before, since each draws the
    seeds of its shuffles; then the batches that were trained on are read again, or, if iterators are kept, Keras's is
    given back its state.

    Args:
        data: As they were passed to `fit`.
        keeps_iterator: Whether the state of the iterator is kept, if the data have no addresses.
        replicas: On how many the model is.
        made: How many iterators of the data this process has made, in a `fit` that was rolled back.

    Raises:
        InvalidInput: If an iterator is to be kept and there is none, or several.
    """

    def __init__(self, data: Any, *, keeps_iterator: bool, replicas: int, made: int = 0) -> None:
        self._place = place_of(data)
        self._behind = [] if keeps_iterator else places_behind(data)
        self._keeps = keeps_iterator and self._place is None
        is_one = isinstance(data, tf.data.Dataset) and replicas == 1
        got = f"a {type(data).__name__} on {replicas} replicas"
        expected, fix = "a tf.data.Dataset on one replica", "Leave keep_iterator out."
        require(is_one or not self._keeps, "keep_iterator=True", got=got, expected=expected, fix=fix)
        self._made = made
        self._iterator: Any = None  # the one that is read from
        self._before = 0  # so many were made before it; Keras makes another one as soon as it has run out
        self._to_give_back: tf.Tensor | None = None
        self._is_there = self._place is not None  # though nothing was read

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same for another process to come there, as far as that is known."""
        return self._place.settings if self._place else {"keep_iterator": self._keeps}

    def expect(self, epochs: Any) -> None:
        """Hear of Keras's object that makes the iterators."""
        self._epochs = epochs
        self._source = epochs._get_iterator = _Counted(epochs._get_iterator, self._made)

    @property
    def made(self) -> int:
        """How many iterators of the data this process has made."""
        return self._source.count

    def state(self, batch: int) -> dict[str, Any]:
        """Return what brings another process there.

        Args:
            batch: How many batches of the epoch are done.
        """
        if self._place:
            return {}
        # With `steps_per_epoch` one iterator serves all epochs.
        is_within = self._iterator is not None and bool(batch or self._epochs.steps_per_epoch)
        # One that has run out is not kept: its state has the seeds of the next one, which Keras makes again.
        is_kept = self._keeps and is_within and self._source.count == self._before + 1
        return {
            "iterators": self._before if is_within else self._source.count,
            "iterator": _saved(self._iterator) if is_kept else None,
        }

    def begin(self, state: dict[str, Any]) -> None:
        """Come to the first epoch, or to the one of a state.

        Args:
            state: What `state` returned; empty if there is none.

        Raises:
            InvalidInput: If an iterator is to be kept that TensorFlow cannot save.
        """
        if self._place:
            return
        if self._keeps and state.get("iterator") is None:
            # Giving back a state draws seeds, so they are drawn here too, where none is given back. Only an iterator
            # that has been read from has all that TensorFlow may not be able to save.
            tried = iter(self._source._get())
            next(tried, None)
            _saved(tried)
        if self._keeps and state.get("iterator") is not None:
            self._to_give_back = tf.io.parse_tensor(state["iterator"].tobytes(), tf.variant)
        self._is_there = self._to_give_back is not None
        for _ in self._source.made(state.get("iterators", 0) - self._is_there):
            pass
        self._source.count += self._is_there

    def go_to(self, epoch: int, batch: int) -> None:
        """Have data with addresses begin there, or those that the data are derived from with the epoch."""
        if self._place:
            self._place.go_to(epoch, batch)
        elif self._epochs.steps_per_epoch is None:  # else an iterator serves several epochs
            for place in self._behind:
                place.go_to(epoch)

    def read_from(self, iterator: Any) -> None:
        """Hear what the next batch is read from, which may have to be given back its state.

        Raises:
            InvalidInput: If it is that of other data.
        """
        if iterator is not self._iterator:
            self._iterator, self._before = iterator, self._source.count - 1
        if self._to_give_back is not None:
            resource, state, self._to_give_back = iterator._iterator_resource, self._to_give_back, None
            try:
                tf.raw_ops.DeserializeIterator(resource_handle=resource, serialized=state)
            except tf.errors.OpError as error:
                got, expected = f"data that do not fit ({one_line(error.message)})", "the same tf.data.Dataset"
                refuse("checkpoints", got=got, expected=expected, fix="Name another folder.", cause=error)

    def pass_over(self, iterator: Any, batches: int) -> None:
        """Come past batches that were trained on before."""
        self.read_from(iterator)
        for _ in range(0 if self._is_there else batches):
            next(iterator)


class _Counted:
    """Makes the iterators of some data and counts them."""

    def __init__(self, get: Callable[[], Iterable[Any]], count: int) -> None:
        self._get, self.count = get, count

    def __call__(self) -> "_Counted":
        return self

    def __iter__(self) -> Iterator[Any]:
        self.count += 1
        return iter(self._get())

    def made(self, count: int) -> Iterator[Iterator[Any]]:
        """Yield so many iterators of which nothing is read."""
        return (iter(self) for _ in range(count))


def _saved(iterator: Any) -> np.ndarray:
    """Return the state of an iterator as bytes."""
    resource = iterator._iterator_resource
    fail = tf.data.experimental.ExternalStatePolicy.FAIL.value
    try:
        state = tf.raw_ops.SerializeIterator(resource_handle=resource, external_state_policy=fail)
    except tf.errors.OpError as error:
        refuse(
            "keep_iterator=True",
            got=f"a tf.data.Dataset that TensorFlow cannot save ({one_line(error.message)})",
            expected="one without py_function, generators and random numbers that are not stateless",
            fix="Leave keep_iterator out: the data are then read up to the batch.",
            cause=error,
        )
    return np.frombuffer(tf.io.serialize_tensor(state).numpy(), np.uint8)
