"""Instance adaptive adversarial training (IAAT), weighted or not."""

import math

import keras
import tensorflow as tf

from wmr_tf import attacks
from wmr_tf.checks import at_least, nonnegative, radius, require, within
from wmr_tf.engine import seeds
from wmr_tf.engine.frozen import freeze
from wmr_tf.methods.base import AdversarialMethod, Batch, Learner
from wmr_tf.weights import Weighting, probability_margin


@keras.saving.register_keras_serializable("wmr_tf.methods")
class IAAT(AdversarialMethod):
    """IAAT: PGD training with a radius for each training image, which grows where the image withstands the attack.

    Each image starts with the attack's radius r. Whenever it is in a batch, it is attacked within `r + growth` and
    within r, and its radius becomes

        (1 - smoothing) * r + smoothing * c,   c = r + growth if it is still classified correctly within r + growth,
                                                   else r if it is within r, else r - growth,

    in [0, epsilon_max]. Then it is attacked within that radius and the update minimises `mean(s * CE)`,
    `s = exp(-alpha * margin)`. For the first epochs, the warm-up, the radii stay as they are.
    An epoch is as many images as there are: the warm-up ends after `warmup_epochs * examples` of them.

    Args:
        attack: Makes x' from x; its epsilon is the radius to start from.
        examples: The number of training images; the data give an index in [0, examples) for each image, as
            `wmr_tf.data.load(..., with_index=True)` does.
        radius_growth: How much larger or smaller the radius is that is tried, >= 0, in linf <= 1, in units of the
            images' range [0, 1].
        radius_smoothing: The fraction of that by which the radius moves, in [0, 1].
        warmup_epochs: The number of epochs in which the radii stay as they are, >= 0.
        epsilon_max: The largest radius, >= the attack's epsilon, in linf <= 1; None for twice that.
        alpha: Power of the attacker trained against, or a `Weighting`; 0 is the method of Balaji et al.

    Raises:
        InvalidInput: If a number is out of range, or `attack` is no PGD; in `fit`, if the first batches have no index
            or one that is out of range. In a later batch that is TensorFlow's InvalidArgumentError; XLA does not
            check, and another image's radius is used.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.031, step_size=0.007, steps=10)
        >>> splits = wmr_tf.data.load("digits", with_index=True)  # of ({"image": image, "index": index}, label)
        >>> method = IAAT(attack, examples=splits.train_examples, radius_growth=0.0075, warmup_epochs=10)
        >>> model = wmr_tf.AdversarialModel(classifier, method)
        >>> model.compile(optimizer="sgd")
        >>> history = model.fit(splits.train, verbose=0)

    Cost: in the warm-up that of PGD training; after it three attacks instead of one, and two more passes forward.

    Source: Balaji et al. 2019, Algorithms 1 and 2; alpha as in Zeng et al. 2021, Algorithm 1.

    Note: The paper's radii have no upper bound: `epsilon_max` is ours. The attack's step size is the same for all
        radii; the released code lengthens it for large ones, attacks with BatchNorm in training mode, and shrinks the
        radii of images that it misclassifies clean towards 0 at once.
    """

    attack: attacks.PGD
    needs_index = True

    def __init__(
        self,
        attack: attacks.PGD,
        *,
        examples: int,
        radius_growth: float = 0.0075,
        radius_smoothing: float = 0.1,
        warmup_epochs: float = 10.0,
        epsilon_max: float | None = None,
        alpha: float | Weighting = 0.0,
    ) -> None:
        fix = "Pass for instance wmr_tf.attacks.PGD(epsilon=0.031, step_size=0.007, steps=10)."
        require(isinstance(attack, attacks.PGD), "attack", got=attack, expected="a wmr_tf.attacks.PGD", fix=fix)
        super().__init__(attack, alpha)
        self.examples = at_least("examples", examples, 1)
        self.radius_growth = radius("radius_growth", radius_growth, attack.norm)
        self.radius_smoothing = within("radius_smoothing", radius_smoothing, 0, 1)
        self.warmup_epochs = nonnegative("warmup_epochs", warmup_epochs)
        largest = 2 * attack.epsilon if epsilon_max is None else radius("epsilon_max", epsilon_max, attack.norm)
        self.epsilon_max = within("epsilon_max", largest, attack.epsilon, math.inf)

    def build(self, images_shape: tuple[int | None, ...]) -> None:
        """Create the radii, all equal; the shape does not matter."""
        equal = keras.initializers.Constant(self.attack.epsilon)
        self.radii = self.add_weight(name="radii", shape=(self.examples,), initializer=equal, trainable=False)
        self.seen = self.add_weight(name="seen", shape=(), initializer="zeros", dtype="int64", trainable=False)

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Adapt the radii, attack the batch within them, and descend once; see `Method.train_batch`."""
        self.check_batch(batch.images.shape)
        frozen = freeze(model.classifier)

        def attacked_within(radii: tf.Tensor, seed: tf.Tensor) -> Batch:
            return self.attacked(frozen, batch, seed=seed, epsilon=radii)

        def adapted(radii: tf.Tensor) -> tf.Tensor:
            larger = radii + self.radius_growth
            withstood = [
                probability_margin(frozen(attacked_within(radius, seeds.nth(batch.seed, n)).images), batch.labels) > 0
                for n, radius in ((1, larger), (2, radii))
            ]
            smaller = radii - self.radius_growth
            aim = tf.where(withstood[0], larger, tf.where(withstood[1], radii, smaller))
            return tf.clip_by_value(radii + self.radius_smoothing * (aim - radii), 0.0, self.epsilon_max)

        message = f"index: an image's place in the training set must be in [0, {self.examples})"
        is_place = tf.debugging.assert_less(batch.index, self.examples, message)
        with tf.control_dependencies([is_place, tf.debugging.assert_non_negative(batch.index, message)]):
            index = tf.identity(batch.index)
        radii = tf.gather(self.radii, index)
        is_warm = tf.cast(self.seen, tf.float64) >= self.warmup_epochs * self.examples
        radii = tf.cond(is_warm, lambda: adapted(radii), lambda: radii)
        self.radii.assign(tf.tensor_scatter_nd_update(self.radii, index[:, tf.newaxis], radii))
        self.seen.assign_add(tf.size(index, tf.int64))
        attacked = attacked_within(radii, batch.seed)
        return model.descend(batch, self.loss_of(model.classifier, attacked.images, attacked))
