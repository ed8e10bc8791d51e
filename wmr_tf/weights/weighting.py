"""What a weighting is: how much the loss of each image counts, given what is known of it."""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import tensorflow as tf

from wmr_tf.checks import require


class Weighting(abc.ABC):
    """How much the loss of each image counts: a value without state, which methods take as their `alpha`.

    A weighting of your own is a frozen dataclass that says in `__call__` what it is; registered with Keras it is saved
    with the model, and with a line in `BY_NAME` and one in `wmr_tf.names.WEIGHTINGS` it is `--weighting=NAME` on the
    command line. It weights the loss in the attack as well, where a weight of 0 leaves an image as it is; one for the
    update alone derives from `Detached`.

    Example:
        >>> @keras.saving.register_keras_serializable("mine")
        ... @dataclasses.dataclass(frozen=True)
        ... class OnlyWrong(Detached):
        ...     def __call__(self, logits, labels, **known):
        ...         return tf.cast(wmr_tf.weights.probability_margin(logits, labels) <= 0, tf.float32)
        >>> OnlyWrong()(tf.constant([[2.0, 0.0], [0.0, 2.0]]), tf.constant([0, 0])).numpy()
        array([0., 1.], dtype=float32)
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """What `__call__` takes by name beside logits and labels: "losses" float32 `[batch]`, those that it is to weight;
    "withstood" float32 `[batch]` in [0, 1], the fraction of the attack's steps before the first that fooled the
    classifier, see `wmr_tf.attacks.PGD.counting`. A method that cannot tell is refused."""

    @abc.abstractmethod
    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return the weight of each image.

        Args:
            logits: Floats `[batch, classes]`, of the images that the loss is taken of.
            labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
            **known: What `needs` names, and nothing else.

        Returns:
            float32 `[batch]`, >= 0. The gradient flows through them; what is taken over the batch, such as a mean,
            counts as a constant.
        """

    def weighted(
        self, losses: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor, withstood: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return `s * loss` of each image, float32 `[batch]`; the weighting takes what it needs.

        Args:
            losses: float32 `[batch]`.
            logits: As in `__call__`.
            labels: As in `__call__`.
            withstood: See `needs`; None if it is not known.

        Raises:
            InvalidInput: If the weighting needs what is not known.
        """
        offered = {"losses": losses, **({} if withstood is None else {"withstood": withstood})}
        self.check_known(tuple(offered))
        return self(logits, labels, **{name: offered[name] for name in self.needs}) * losses

    def check_known(self, known: tuple[str, ...]) -> None:
        """Check that it needs nothing but what is known, by the names in `needs`.

        Raises:
            InvalidInput: If it does.
        """
        missing = [name for name in self.needs if name not in known]
        require(
            not missing,
            "weighting",
            got=f"{type(self).__name__}, which needs {' and '.join(missing)} of each image",
            expected=f"one that needs no more than {' and '.join(known)}",
            fix="Take a method whose attack is PGD without restarts (not free or yopo), or another weighting.",
        )

    def of_each_image(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the weights as the attack has them: without the rest of the batch, on which none may depend.

        The arguments are those of `__call__`. A weighting that takes something over the batch defines this.
        """
        return self(logits, labels)

    def describe(self) -> dict[str, Any]:
        """Return name and settings as plain values, as `metrics.json` prints them."""
        return {"name": type(self).__name__, **self.get_config()}

    def get_config(self) -> dict[str, Any]:
        """Return the settings, for Keras's serialisation."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the weighting with these settings, for Keras's serialisation."""
        return cls(**config)


class Detached(Weighting):
    """A weighting whose weights are constants, chosen after the attack: no gradient flows through them.

    The attack then maximises each image's loss without a weight. For a worst case over a set of weights this is the
    gradient of the maximum (Danskin's theorem).
    """

    def of_each_image(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return 1 for each image; see `Weighting.of_each_image`."""
        return tf.ones(tf.shape(logits)[:1])
