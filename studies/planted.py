"""The faults that `studies.faults` plants: one edit each, and the tests that must notice it."""

from typing import NamedTuple

APGD, ASCENT, NORMS = "wmr_tf/attacks/apgd.py", "wmr_tf/attacks/ascent.py", "wmr_tf/attacks/norms.py"
BASE, FAB, SQUARE = "wmr_tf/attacks/base.py", "wmr_tf/attacks/fab.py", "wmr_tf/attacks/square.py"
PLANES, WINDOWS, LOSSES = "wmr_tf/attacks/planes.py", "wmr_tf/attacks/windows.py", "wmr_tf/losses.py"
SUITE, STAGES, VERSIONS, OUTCOMES = (
    f"wmr_tf/evaluation/{name}.py" for name in ("suite", "stages", "versions", "outcomes")
)

CHOOSERS, RADII, TEMPERATURE, STATISTICS = (
    f"wmr_tf/evaluation/{name}.py" for name in ("choosers", "radii", "temperature", "statistics")
)
WEIGHTING, RIVALS, PGD = "wmr_tf/weights/weighting.py", "wmr_tf/weights/rivals.py", "wmr_tf/attacks/pgd.py"

TESTS = {
    ASCENT: "tests/test_apgd.py",
    APGD: "tests/test_apgd.py",
    BASE: "tests/test_apgd.py",
    NORMS: "tests/test_apgd.py tests/test_norms.py",
    LOSSES: "tests/test_losses.py",
    FAB: "tests/test_fab.py tests/test_suite.py",
    PLANES: "tests/test_fab.py",
    WINDOWS: "tests/test_square.py",
    SQUARE: "tests/test_square.py",
    SUITE: "tests/test_suite.py",
    STAGES: "tests/test_suite.py tests/test_choosers.py",
    VERSIONS: "tests/test_suite.py",
    OUTCOMES: "tests/test_suite.py",
    CHOOSERS: "tests/test_choosers.py",
    RADII: "tests/test_choosers.py",
    TEMPERATURE: "tests/test_choosers.py",
    STATISTICS: "tests/test_statistics.py",
    WEIGHTING: "tests/test_rivals.py",
    RIVALS: "tests/test_rivals.py",
    PGD: "tests/test_rivals.py",
}
"""The tests that a fault in a file must fail, as pytest names them, apart by blanks."""


class Fault(NamedTuple):
    """A fault.

    Attributes:
        file: The file, from the repository's root.
        what: What is wrong then, in words.
        old: The text that is replaced; it stands in the file once.
        new: The text that replaces it.
    """

    file: str
    what: str
    old: str
    new: str

    @property
    def tests(self) -> str:
        """The tests to run."""
        return TESTS[self.file]


FAULTS = (
    # Auto-PGD
    Fault(ASCENT, "no momentum", "tf.where(k == 0, 1.0, MOMENTUM)", "tf.constant(1.0)"),
    Fault(ASCENT, "momentum 0.7", "MOMENTUM = 0.75", "MOMENTUM = 0.7"),
    Fault(ASCENT, "momentum in the first step", "tf.where(k == 0, 1.0, MOMENTUM)", "tf.constant(MOMENTUM)"),
    Fault(
        ASCENT, "momentum reset at a return to the best point", "before=at.x,", "before=where(back, record.best, at.x),"
    ),
    Fault(
        ASCENT,
        "gradient not restored at a return",
        "gradient=where(back, record.gradient, gradient),\n                step_size=tf.where(back",
        "gradient=gradient,\n                step_size=tf.where(back",
    ),
    Fault(ASCENT, "no return to the best point", "x=where(back, record.best, x),", "x=x,"),
    Fault(
        ASCENT, "`<` in place of `<=` for too few rises", "tf.float32) <= ENOUGH_RISES", "tf.float32) < ENOUGH_RISES"
    ),
    Fault(ASCENT, "rises not counted anew in each window", "rises=tf.where(is_check, 0, rises),", "rises=rises,"),
    Fault(ASCENT, "the first loss compared with that of the start", "last_loss=none,  #", "last_loss=record.loss,  #"),
    Fault(ASCENT, "the first window must find a better point", "halved=tf.ones_like", "halved=tf.zeros_like"),
    Fault(
        ASCENT, "the second condition left out", "back = is_check & (too_few | no_better)", "back = is_check & too_few"
    ),
    Fault(
        ASCENT,
        "the loss at the last check never renewed",
        "loss_at_check=tf.where(is_check, record.loss, at.loss_at_check)",
        "loss_at_check=at.loss_at_check",
    ),
    Fault(ASCENT, "the step size begins at the radius", "none + 2.0 * tf.reshape", "none + 1.0 * tf.reshape"),
    Fault(ASCENT, "windows become shorter by 4 %", "(0.22, 0.03, 0.06)", "(0.22, 0.04, 0.06)"),
    Fault(ASCENT, "no projection after the momentum", "x = ball.project(at.x + new *", "x = (at.x + new *"),
    Fault(ASCENT, "of equal losses the last one is kept", "better = loss > self.loss", "better = loss >= self.loss"),
    Fault(ASCENT, "in l1 the share follows the last point", "now = moved(record.best)", "now = moved(x)"),
    Fault(
        ASCENT,
        "in l1 steps never become shorter",
        "at.step_size / 1.5, longest / 10.0",
        "at.step_size / 1.0, longest / 10.0",
    ),
    Fault(APGD, "it starts at the clean image", "point = balls[0].surface(seed)", "point = clean"),
    Fault(APGD, "a staged attack ends in a ball too large", "(2.0, 0.3), (1.0, 0.4)", "(2.0, 0.3), (1.1, 0.4)"),
    Fault(APGD, "the last restart wins", "*smaller(*found, worst, score)", "*found"),
    Fault(APGD, "all restarts draw the same numbers", "radii, seeds.nth(seed, r))", "radii, seed)"),
    Fault(
        APGD,
        "returned is the point of highest loss",
        "return record.worst, record.score",
        "return record.best, record.score",
    ),
    Fault(
        BASE,
        "a later point hides a NaN",
        "tf.logical_not(tf.math.is_nan(kept_score) | (score >= kept_score))",
        "score < kept_score",
    ),
    Fault(BASE, "averaged gradients not divided", "total / gradients", "total"),
    # Norms and losses
    Fault(
        NORMS,
        "in l2 the box before the ball",
        "change = attacked - self.clean\n        shrinkage",
        "change = tf.clip_by_value(attacked, 0.0, 1.0) - self.clean\n        shrinkage",
    ),
    Fault(
        NORMS,
        "in l1 the box is forgotten",
        "tf.where(change > 0, 1.0 - self.clean, self.clean)",
        "tf.ones_like(change)",
    ),
    Fault(LOSSES, "DLR divides by z_1 - z_2", "largest[:, 0] - largest[:, 2] +", "largest[:, 0] - largest[:, 1] +"),
    Fault(LOSSES, "targeted DLR divides by z_1 - z_3", "tf.reduce_mean(largest[:, 2:], axis=-1)", "largest[:, 2]"),
    # FAB
    Fault(FAB, "eta 1", "ETA = 1.05", "ETA = 1.0"),
    Fault(FAB, "beta 1: never drawn back", "BETA = 0.9", "BETA = 1.0"),
    Fault(FAB, "alpha up to 1", "ALPHA_MAX = 0.1", "ALPHA_MAX = 1.0"),
    Fault(FAB, "the farthest plane", "nearest = tf.argmin(away", "nearest = tf.argmax(away"),
    Fault(
        FAB,
        "arrival on the boundary is success",
        "(verdict < 0) & (length < distance)",
        "(verdict <= 0) & (length < distance)",
    ),
    Fault(PLANES, "the box is forgotten", "tf.where(downhill > 0, 1.0 - point, point)", "tf.ones_like(point)"),
    # Square
    Fault(
        WINDOWS,
        "corners up to height - side",
        "tf.cast([height - side, width - side]",
        "tf.cast([height - side + 1, width - side + 1]",
    ),
    Fault(
        SQUARE, "a worse point is accepted", "tf.logical_not(found >= margins)", "tf.logical_not(found > margins + 1.0)"
    ),
    Fault(SQUARE, "a broken image is changed", "lowered = (margins >= 0) & ", "lowered = "),
    Fault(
        SQUARE, "stripes along rows", "[self.channels, 1, self.width], seed", "[self.channels, self.height, 1], seed"
    ),
    Fault(
        SQUARE,
        "each pixel has a sign of its own",
        "[self.channels, 1, self.width], seed",
        "[self.channels, self.height, self.width], seed",
    ),
    # The suite
    Fault(SUITE, "rank 0, the label, as the first target", "ranks[padded, run + 1]", "ranks[padded, run]"),
    Fault(SUITE, "targets by the adversarial image", "np.argsort(-state.clean_logits", "np.argsort(-state.logits"),
    Fault(
        SUITE,
        "of equal logits the last class first",
        "np.argsort(-state.clean_logits, axis=1",
        "state.clean_logits.shape[1] - 1 - np.argsort(-state.clean_logits[:, ::-1], axis=1",
    ),
    Fault(SUITE, "attacks go on from earlier adversarial points", "state.clean[padded],", "state.adversarial[padded],"),
    Fault(
        SUITE,
        "each attack sees all images",
        "while len(places := state.alive()[: self._at_once(state.clean)]):",
        "while len(places := np.arange(len(state.labels))[state.done :][: self._at_once(state.clean)]):",
    ),
    Fault(SUITE, "seeds by place in the batch", "padded.astype(np.int32),", "np.arange(len(padded), dtype=np.int32),"),
    Fault(
        OUTCOMES,
        "only the last attack counts",
        "(self.broken_by == ROBUST) | (self.broken_by > run)",
        "(self.broken_by == ROBUST) | (self.broken_by != run) & (self.broken_by >= 0)",
    ),
    Fault(
        OUTCOMES,
        "accuracy of the images left, not of all",
        "(self.broken_by == ROBUST) | (self.broken_by > run)",
        "(self.broken_by != run)",
    ),
    Fault(
        OUTCOMES,
        "misclassified clean images count as robust",
        "np.where(wrong, MISCLASSIFIED, ROBUST)",
        "np.where(wrong, ROBUST, ROBUST)",
    ),
    Fault(
        OUTCOMES,
        "broken where the margin is 0",
        "broken = logits.argmax(axis=1) != labels",
        "broken = logit_margins(logits, labels) <= 0",
    ),
    Fault(OUTCOMES, "the adversarial image is the last one", "kept = places[closer | broken]", "kept = places"),
    Fault(OUTCOMES, "finished batches are attacked again after a kill", 'int(arrays["done"])', "0"),
    Fault(OUTCOMES, "a file of other weights is accepted", '"weights": hash_of_weights(classifier), ', ""),
    Fault(
        STAGES,
        "runs share their random numbers",
        "zlib.crc32(self.name.encode()) >> 1, run)",
        "zlib.crc32(self.name.encode()) >> 1)",
    ),
    Fault(
        STAGES,
        "stages share their random numbers",
        "positions, zlib.crc32(self.name.encode()) >> 1, run)",
        "positions, run)",
    ),
    Fault(
        STAGES,
        "only the target class counts as success",
        "losses.verdict(logits_of(x), batch.labels)",
        "-loss(logits_of(x), batch.labels, batch.targets)",
    ),
    Fault(STAGES, "FAB's points beyond the radius count", "where(is_outside, batch.images, points)", "points"),
    Fault(VERSIONS, "ten targets", "TARGETS = 9", "TARGETS = 10"),
    Fault(STAGES, "Square begins anew in each part", "run == 0,", "run >= 0,"),
    Fault(
        VERSIONS,
        "the order of the standard",
        "[of.apgd_ce(), of.apgd_t(), of.fab_t(), of.square()]",
        "[of.apgd_t(), of.apgd_ce(), of.fab_t(), of.square()]",
    ),
    Fault(
        VERSIONS,
        '100 steps become 50 in "rand"',
        "of.apgd_ce(runs=1, staged=False, gradients=20)",
        "of.apgd_ce(runs=1, staged=False, gradients=20, steps=50)",
    ),
    # Attackers who choose beforehand, radii, statistics
    Fault(CHOOSERS, "the surest images are picked", "np.argsort(margins, kind", "np.argsort(-margins, kind"),
    Fault(CHOOSERS, "ties are broken at will", 'margins, kind="stable"', "margins"),
    Fault(CHOOSERS, "the strongest class is chosen", "np.argmin(accuracies)", "np.argmax(accuracies)"),
    Fault(CHOOSERS, "intervals of classes hold one by one", ", simultaneous=len(classes)", ""),
    Fault(CHOOSERS, "a surrogate's margins are passed over", '"surrogate": self.surrogate', '"surrogate": None'),
    Fault(
        STAGES,
        "the bisection keeps the wrong half",
        "tf.where(is_broken, low, middle)",
        "tf.where(is_broken, middle, low)",
    ),
    Fault(STAGES, "a radius is that of the ball that was tried", "tf.minimum(distances(points), middle)", "2 * middle"),
    Fault(
        RADII, "misclassified images have a radius", "np.where(found.robust_after(-1), radii, 0.0)", "np.asarray(radii)"
    ),
    Fault(RADII, "the best images are taken for the worst", "[..., :images]", "[..., -images:]"),
    Fault(RADII, "what others broke in the ball is forgotten", "np.minimum(self.values, radius)", "self.values"),
    Fault(TEMPERATURE, "the largest margin counts", "margins = np.min(", "margins = np.max("),
    Fault(
        TEMPERATURE,
        "scales are temperatures",
        "mean_top_probability(clean, 1 / scale)",
        "mean_top_probability(clean, scale)",
    ),
    Fault(STATISTICS, "images are drawn without their pairs", "paired=True", "paired=False"),
    Fault(STATISTICS, "McNemar counts all images", "binomtest(only_first, differing)", "binomtest(only_first, images)"),
    Fault(STATISTICS, "the first less the second", "only_second - only_first\n", "only_first - only_second\n"),
    # Weightings
    Fault(RIVALS, "CVaR takes the best images", 'direction="DESCENDING"', 'direction="ASCENDING"'),
    Fault(
        RIVALS,
        "CVaR leaves out the image at the edge",
        "self.level * count - rank",
        "tf.floor(self.level * count) - rank",
    ),
    Fault(RIVALS, "the ball's bisection keeps the wrong half", "tf.where(is_outside, low, middle)", "middle"),
    Fault(RIVALS, "a gradient flows through the ball's weights", "values = tf.stop_gradient(values)", ""),
    Fault(RIVALS, "images that withstand count most", "1.0 - 2.0 * known", "2.0 * known"),
    Fault(PGD, "an image that comes back has withstood", "(withstood == k) & (score > 0)", "score > 0"),
    Fault(
        WEIGHTING,
        "an attack depends on the batch",
        "return tf.ones(tf.shape(logits)[:1])",
        "return self(logits, labels)",
    ),
)
