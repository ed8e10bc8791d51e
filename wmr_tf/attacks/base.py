"""What every attack is: images in, attacked images out, given nothing but functions of images."""

import abc
import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import tensorflow as tf

from wmr_tf.attacks.norms import each
from wmr_tf.checks import require

PerExample = Callable[[tf.Tensor], tf.Tensor]
Evaluate = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
"""Maps images to loss `[batch]`, score `[batch]` and gradient `[batch, ...]`."""

Outputs = TypeVar("Outputs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack(abc.ABC):
    """An attack on images that knows neither model nor labels nor the method it serves.

    Args:
        epsilon: Radius of the ball around each image, in the attack's norm.
    """

    takes_any_loss: ClassVar[bool] = True
    """Whether it maximises whatever loss it is given, as methods and evaluations have their own."""

    stays_in_ball: ClassVar[bool] = True
    """Whether the attacked images stay in the ball, so that accuracies under it are of its radius."""

    ranks: ClassVar[tuple[int, ...] | None] = None
    """How many axes a batch of images may have, the batch's own among them; None for any number."""

    epsilon: float

    @abc.abstractmethod
    def __call__(
        self,
        loss_fn: PerExample,
        x: tf.Tensor,
        *,
        seed: tf.Tensor,
        score_fn: PerExample | None = None,
        epsilon: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return attacked images that stay in the ball around `x` and in [0, 1].

        Args:
            loss_fn: Maps images to the loss `[batch]` that the attack maximises.
            x: Clean images `[batch, ...]`, float32 in [0, 1].
            seed: int32 `[2]` for the batch, or `[batch, 2]` for each image (see `wmr_tf.engine.seeds`).
            score_fn: Maps images to what chooses among restarts, the smaller the better for the attacker, such as
                the margin `[batch]`. Without it the highest loss wins.
            epsilon: A radius for each image, float32 `[batch]`, >= 0; the attack's own for all if not given.

        Returns:
            Attacked images, shaped as `x`. No gradient flows through them.
        """

    @property
    @abc.abstractmethod
    def norm(self) -> str:
        """The norm of the ball, such as "linf"."""

    @property
    @abc.abstractmethod
    def starts_clean(self) -> bool:
        """Whether the first gradient is taken at the clean images themselves, not at points near them."""

    def flags(self, *, runs: float = 1) -> list[dict[str, Any]]:
        """Return what makes the attack not what it looks, as `metrics.json` prints it: here a radius in another unit.

        Args:
            runs: How often in a row it goes on from where it was.

        Returns:
            For each fault its "name", a "message" for people, and the numbers that show it.
        """
        return radius_flags(self.epsilon, self.norm)

    def describe(self) -> dict[str, Any]:
        """Return name, norm and settings as plain values, as `metrics.json` prints them."""
        return {"name": type(self).__name__, "norm": self.norm, **dataclasses.asdict(self)}

    def get_config(self) -> dict[str, Any]:
        """Return the settings, for Keras's serialisation."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Attack":
        """Return the attack with these settings, for Keras's serialisation."""
        return cls(**config)


LARGE = {"linf": 0.5, "l2": 10.0, "l1": 300.0}
"""From which radius on an attack is probably in another unit: in linf every image can be made grey, in the others it is
beyond what papers use, also on images of 224 x 224."""

SMALL = 0.5 / 255
"""Below which radius in linf an attack hardly changes an image of 8 bits."""


def radius_flags(epsilon: float, norm: str) -> list[dict[str, Any]]:
    """Return the flag of a radius that looks as if it were in another unit; none if it does not, or of another norm.

    Example:
        >>> [flag["epsilon"] for flag in radius_flags(128, "l2") + radius_flags(8 / 255, "linf")]
        [128]
    """
    if epsilon >= LARGE.get(norm, math.inf):
        found = "lets every image become grey" if norm == "linf" else "is larger than any in use"
    elif norm == "linf" and 0 < epsilon < SMALL:
        found = "is less than half a grey level of 255"
    else:
        return []
    message = (
        f"epsilon: {epsilon:g} in {norm} {found}, so it is probably meant in another unit. Radii are in units of the "
        "images' range [0, 1]: 8/255 = 0.031 in linf is 8 grey levels."
    )
    return [{"name": "unusual_radius", "epsilon": epsilon, "norm": norm, "message": message}]


def warn_if_weak(attack: Attack, *, runs: float = 1) -> None:
    """Warn of what makes an attack weaker than it looks, or its radius unusual, once for each message.

    For those who put an attack to use, to measure or to train: by its settings alone nobody can tell, since YOPO makes
    few steps in each of many runs, and Free goes on from batch to batch.

    Args:
        attack: The attack.
        runs: How often in a row it goes on from where it was.
    """
    warn_of(attack.flags(runs=runs))


def warn_of(flags: list[dict[str, Any]]) -> None:
    """Warn of each flag."""
    for flag in flags:
        warnings.warn(flag["message"], stacklevel=1)  # Python shows a warning once for each place, and this is one


def apart(function: Callable[[tf.Tensor], Outputs]) -> Callable[[tf.Tensor], Outputs]:
    """Return a function that takes a gradient in the form in which a graph is to call it: one that is not inlined.

    A loop's body is a circle, in which TensorFlow may look at a max-pool's gradient before the max-pool itself, and
    then gives it a kernel that is 15 times slower.
    """
    if not tf.inside_function():
        return function
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def slope(tape: tf.GradientTape, loss: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return the gradient of a loss with respect to images; 0 where none flows, as through `tf.round`."""
    return tape.gradient(loss, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def input_gradient(loss_fn: PerExample, x: tf.Tensor) -> tf.Tensor:
    """Return the gradient of the summed losses: each image's own, undivided by the size of the batch.

    Args:
        loss_fn: Maps images to the loss `[batch]`.
        x: Where to take it, images `[batch, ...]`.

    Returns:
        The gradient, shaped as `x`; 0 where none flows, as through `tf.round`.

    Example:
        >>> input_gradient(lambda x: x[:, 0] ** 2, tf.constant([[3.0, 1.0], [0.5, 1.0]])).numpy()
        array([[6., 0.],
               [1., 0.]], dtype=float32)
    """

    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            loss = tf.reduce_sum(loss_fn(x))
        return slope(tape, loss, x)

    return apart(gradient)(x)


def evaluation_of(loss_fn: PerExample, score_fn: PerExample | None = None, *, gradients: int = 1) -> Evaluate:
    """Return a function of images to loss, score and each image's own gradient of its loss, in one pass.

    Made once and called at several places of a graph, it is traced once.

    Args:
        loss_fn: Maps images to the loss `[batch]`.
        score_fn: Maps images to the score; the negative loss if not given. That it shares the pass with `loss_fn` is
            the caller's affair, see `computed_once`.
        gradients: How many passes the gradient is the mean of, for a randomised classifier; loss and score are those
            of the last one.
    """

    def once(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            loss = loss_fn(x)
            total = tf.reduce_sum(loss)
        score = -loss if score_fn is None else score_fn(x)
        return loss, score, slope(tape, total, x)

    one_pass = apart(once)
    if gradients == 1:
        return one_pass

    def several(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def again(k: tf.Tensor, total: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            loss, score, gradient = one_pass(x)
            return k + 1, total + gradient, loss, score

        nothing = tf.zeros(tf.shape(x)[:1])
        begin = (0, tf.zeros_like(x), nothing, nothing)
        _, total, loss, score = tf.while_loop(lambda k, *_: k < gradients, again, begin)
        return loss, score, total / gradients

    return several


def computed_once(network: PerExample) -> PerExample:
    """Return a function that computes `network` once for one and the same tensor, for a loss and a score that share it.

    The loss must be the first to ask, so that its gradient sees the pass.
    """
    seen: list[tf.Tensor] = [None, None]

    def outputs(x: tf.Tensor) -> tf.Tensor:
        if seen[0] is not x:
            seen[:] = x, network(x)
        return seen[1]

    return outputs


def smaller(x: tf.Tensor, score: tf.Tensor, kept: tf.Tensor, kept_score: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return for each image the point with the smaller score, and that score; the kept one in a tie.

    The first NaN is kept, so that it is seen in the end: a later point must not hide it.
    """
    taken = tf.logical_not(tf.math.is_nan(kept_score) | (score >= kept_score))
    return where(taken, x, kept), tf.where(taken, score, kept_score)


def where(condition: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Return the images `[batch, ...]` of `x` where a condition `[batch]` holds, else those of `y`."""
    return tf.where(each(condition, x), x, y)


def check_attack(attack: Any) -> None:
    """Check that what was passed as an attack is one, and that it can be given any loss.

    Raises:
        InvalidInput: If it is something else.
    """
    fix = "Pass for instance wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)."
    is_attack = isinstance(attack, Attack)
    require(is_attack, "attack", got=repr(attack), expected="a wmr_tf.attacks.Attack", fix=fix)
    expected = "an attack that maximises any loss, such as PGD or APGD: this one needs a margin, and would do nothing"
    fix = "Measure with it as a part of AutoAttack, wmr_tf.auto_attack(..., version='standard')."
    require(attack.takes_any_loss, "attack", got=repr(attack), expected=expected, fix=fix)


def check_rank(attack: Attack, shape: Sequence[int | None]) -> None:
    """Check that an attack can be made on images of a shape, `[batch, ...]`.

    Raises:
        InvalidInput: If it cannot.
    """
    name = type(attack).__name__
    require(
        attack.ranks is None or len(shape) in attack.ranks,
        "images",
        got=f"the shape {tuple(shape)}",
        expected=f"images [batch, height, width, channels] or vectors [batch, features], for {name}",
        fix=f"Reshape them, or leave {name} out.",
    )


def check_test_attack(attack: Any) -> None:
    """Check that something is an attack under which accuracies mean what they say.

    Raises:
        InvalidInput: If it is none, or its images leave the ball.
    """
    check_attack(attack)
    expected = "an attack whose images stay in the ball of its radius"
    fix = "Train with it and measure with another one, such as PGD."
    require(attack.stays_in_ball, "attack", got=repr(attack), expected=expected, fix=fix)
