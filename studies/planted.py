"""The faults that `studies.faults` plants: one edit each, and the tests that must notice it."""

from typing import NamedTuple


class Fault(NamedTuple):
    """A fault.

    Attributes:
        file: The file, from the repository's root.
        what: What is wrong then, in words.
        old: The text that is replaced; it stands in the file once.
        new: The text that replaces it.
        tests: The tests to run, as pytest names them, apart by blanks.
    """

    file: str
    what: str
    old: str
    new: str
    tests: str


APGD, ASCENT, NORMS = "wmr_tf/attacks/apgd.py", "wmr_tf/attacks/ascent.py", "wmr_tf/attacks/norms.py"
BASE, FAB, SQUARE = "wmr_tf/attacks/base.py", "wmr_tf/attacks/fab.py", "wmr_tf/attacks/square.py"
PLANES, WINDOWS, LOSSES = "wmr_tf/attacks/planes.py", "wmr_tf/attacks/windows.py", "wmr_tf/losses.py"
SUITE, STAGES = "wmr_tf/evaluation/suite.py", "wmr_tf/evaluation/stages.py"
OUTCOMES, FLAGS = "wmr_tf/evaluation/outcomes.py", "wmr_tf/evaluation/flags.py"
OF_APGD, OF_FAB, OF_SQUARE = "tests/test_apgd.py", "tests/test_fab.py", "tests/test_square.py"
OF_SUITE, OF_NORMS, OF_LOSSES = "tests/test_suite.py", "tests/test_norms.py", "tests/test_losses.py"

FAULTS = (
    # Auto-PGD
    Fault(ASCENT, "no momentum", "tf.where(k == 0, 1.0, MOMENTUM)", "tf.constant(1.0)", OF_APGD),
    Fault(ASCENT, "momentum 0.7", "MOMENTUM = 0.75", "MOMENTUM = 0.7", OF_APGD),
    Fault(ASCENT, "momentum in the first step", "tf.where(k == 0, 1.0, MOMENTUM)", "tf.constant(MOMENTUM)", OF_APGD),
    Fault(
        ASCENT,
        "momentum reset at a return to the best point",
        "before=at.x,",
        "before=where(back, record.best, at.x),",
        OF_APGD,
    ),
    Fault(
        ASCENT,
        "gradient not restored at a return",
        "gradient=where(back, record.gradient, gradient),\n                step_size=tf.where(back",
        "gradient=gradient,\n                step_size=tf.where(back",
        OF_APGD,
    ),
    Fault(ASCENT, "no return to the best point", "x=where(back, record.best, x),", "x=x,", OF_APGD),
    Fault(
        ASCENT,
        "`<` in place of `<=` for too few rises",
        "tf.float32) <= ENOUGH_RISES",
        "tf.float32) < ENOUGH_RISES",
        OF_APGD,
    ),
    Fault(
        ASCENT, "rises not counted anew in each window", "rises=tf.where(is_check, 0, rises),", "rises=rises,", OF_APGD
    ),
    Fault(
        ASCENT,
        "the first loss compared with that of the start",
        "last_loss=none,  #",
        "last_loss=record.loss,  #",
        OF_APGD,
    ),
    Fault(ASCENT, "the first window must find a better point", "halved=tf.ones_like", "halved=tf.zeros_like", OF_APGD),
    Fault(
        ASCENT,
        "the second condition left out",
        "back = is_check & (too_few | no_better)",
        "back = is_check & too_few",
        OF_APGD,
    ),
    Fault(
        ASCENT,
        "the loss at the last check never renewed",
        "loss_at_check=tf.where(is_check, record.loss, at.loss_at_check)",
        "loss_at_check=at.loss_at_check",
        OF_APGD,
    ),
    Fault(ASCENT, "the step size begins at the radius", "none + 2.0 * tf.reshape", "none + 1.0 * tf.reshape", OF_APGD),
    Fault(ASCENT, "windows become shorter by 4 %", "(0.22, 0.03, 0.06)", "(0.22, 0.04, 0.06)", OF_APGD),
    Fault(ASCENT, "no projection after the momentum", "x = ball.project(at.x + new *", "x = (at.x + new *", OF_APGD),
    Fault(
        ASCENT,
        "of equal losses the last one is kept",
        "better = loss > self.loss",
        "better = loss >= self.loss",
        OF_APGD,
    ),
    Fault(ASCENT, "in l1 the share follows the last point", "now = moved(record.best)", "now = moved(x)", OF_APGD),
    Fault(
        ASCENT,
        "in l1 steps never become shorter",
        "at.step_size / 1.5, longest / 10.0",
        "at.step_size / 1.0, longest / 10.0",
        OF_APGD,
    ),
    Fault(APGD, "it starts at the clean image", "point = balls[0].surface(seed)", "point = clean", OF_APGD),
    Fault(
        APGD, "a staged attack ends in a ball too large", "(2.0, 0.3), (1.0, 0.4)", "(2.0, 0.3), (1.1, 0.4)", OF_APGD
    ),
    Fault(APGD, "the last restart wins", "*smaller(*found, worst, score)", "*found", OF_APGD),
    Fault(APGD, "all restarts draw the same numbers", "radii, seeds.nth(seed, r))", "radii, seed)", OF_APGD),
    Fault(
        APGD,
        "returned is the point of highest loss",
        "return record.worst, record.score",
        "return record.best, record.score",
        OF_APGD,
    ),
    Fault(
        BASE,
        "a later point hides a NaN",
        "tf.logical_not(tf.math.is_nan(kept_score) | (score >= kept_score))",
        "score < kept_score",
        OF_APGD,
    ),
    Fault(BASE, "averaged gradients not divided", "total / gradients", "total", OF_APGD),
    # Norms and losses
    Fault(
        NORMS,
        "in l2 the box before the ball",
        "change = attacked - self.clean\n        shrinkage",
        "change = tf.clip_by_value(attacked, 0.0, 1.0) - self.clean\n        shrinkage",
        f"{OF_APGD} {OF_NORMS}",
    ),
    Fault(
        NORMS,
        "in l1 the box is forgotten",
        "tf.where(change > 0, 1.0 - self.clean, self.clean)",
        "tf.ones_like(change)",
        OF_NORMS,
    ),
    Fault(
        LOSSES,
        "DLR divides by z_1 - z_2",
        "largest[:, 0] - largest[:, 2] +",
        "largest[:, 0] - largest[:, 1] +",
        OF_LOSSES,
    ),
    Fault(
        LOSSES,
        "targeted DLR divides by z_1 - z_3",
        "tf.reduce_mean(largest[:, 2:], axis=-1)",
        "largest[:, 2]",
        OF_LOSSES,
    ),
    # FAB
    Fault(FAB, "eta 1", "ETA = 1.05", "ETA = 1.0", OF_FAB),
    Fault(FAB, "beta 1: never drawn back", "BETA = 0.9", "BETA = 1.0", OF_FAB),
    Fault(FAB, "alpha up to 1", "ALPHA_MAX = 0.1", "ALPHA_MAX = 1.0", OF_FAB),
    Fault(FAB, "the farthest plane", "nearest = tf.argmin(away", "nearest = tf.argmax(away", OF_FAB),
    Fault(
        FAB,
        "arrival on the boundary is success",
        "(verdict < 0) & (length < distance)",
        "(verdict <= 0) & (length < distance)",
        f"{OF_FAB} {OF_SUITE}",
    ),
    Fault(PLANES, "the box is forgotten", "tf.where(downhill > 0, 1.0 - point, point)", "tf.ones_like(point)", OF_FAB),
    # Square
    Fault(
        WINDOWS,
        "corners up to height - side",
        "tf.cast([height - side, width - side]",
        "tf.cast([height - side + 1, width - side + 1]",
        OF_SQUARE,
    ),
    Fault(
        SQUARE,
        "a worse point is accepted",
        "tf.logical_not(found >= margins)",
        "tf.logical_not(found > margins + 1.0)",
        OF_SQUARE,
    ),
    Fault(SQUARE, "a broken image is changed", "lowered = (margins > 0) & ", "lowered = ", OF_SQUARE),
    Fault(
        SQUARE,
        "stripes along rows",
        "[self.channels, 1, self.width], seed",
        "[self.channels, self.height, 1], seed",
        OF_SQUARE,
    ),
    Fault(
        SQUARE,
        "each pixel has a sign of its own",
        "[self.channels, 1, self.width], seed",
        "[self.channels, self.height, self.width], seed",
        OF_SQUARE,
    ),
    # The suite
    Fault(SUITE, "rank 0, the label, as the first target", "ranks[places, run + 1]", "ranks[places, run]", OF_SUITE),
    Fault(
        SUITE,
        "targets by the adversarial image",
        "np.argsort(-state.clean_logits",
        "np.argsort(-state.logits",
        OF_SUITE,
    ),
    Fault(
        SUITE,
        "of equal logits the last class first",
        "np.argsort(-state.clean_logits, axis=1",
        "state.clean_logits.shape[1] - 1 - np.argsort(-state.clean_logits[:, ::-1], axis=1",
        OF_SUITE,
    ),
    Fault(
        SUITE,
        "attacks go on from earlier adversarial points",
        "state.clean[places],",
        "state.adversarial[places],",
        OF_SUITE,
    ),
    Fault(
        SUITE,
        "each attack sees all images",
        "while len(places := state.alive()[: self.batch_size]):",
        "while len(places := np.arange(len(state.labels))[state.done :][: self.batch_size]):",
        OF_SUITE,
    ),
    Fault(
        SUITE,
        "seeds by place in the batch",
        "places.astype(np.int32),",
        "np.arange(len(places), dtype=np.int32),",
        OF_SUITE,
    ),
    Fault(
        OUTCOMES,
        "only the last attack counts",
        "(self.broken_by == ROBUST) | (self.broken_by > run)",
        "(self.broken_by == ROBUST) | (self.broken_by != run) & (self.broken_by >= 0)",
        OF_SUITE,
    ),
    Fault(
        OUTCOMES,
        "accuracy of the images left, not of all",
        "(self.broken_by == ROBUST) | (self.broken_by > run)",
        "(self.broken_by != run)",
        OF_SUITE,
    ),
    Fault(
        OUTCOMES,
        "misclassified clean images count as robust",
        "np.where(wrong, MISCLASSIFIED, ROBUST)",
        "np.where(wrong, ROBUST, ROBUST)",
        OF_SUITE,
    ),
    Fault(
        OUTCOMES,
        "broken where the margin is 0",
        "broken = logits.argmax(axis=1) != labels",
        "broken = logit_margins(logits, labels) <= 0",
        OF_SUITE,
    ),
    Fault(
        OUTCOMES, "the adversarial image is the last one", "kept = places[closer | broken]", "kept = places", OF_SUITE
    ),
    Fault(OUTCOMES, "finished batches are attacked again after a kill", 'int(arrays["done"])', "0", OF_SUITE),
    Fault(OUTCOMES, "a file of other weights is accepted", '"weights": _digest(*weights), ', "", OF_SUITE),
    Fault(
        STAGES,
        "runs share their random numbers",
        "zlib.crc32(self.name.encode()) >> 1, run)",
        "zlib.crc32(self.name.encode()) >> 1)",
        OF_SUITE,
    ),
    Fault(
        STAGES,
        "stages share their random numbers",
        "positions, zlib.crc32(self.name.encode()) >> 1, run)",
        "positions, run)",
        OF_SUITE,
    ),
    Fault(
        STAGES,
        "only the target class counts as success",
        "losses.verdict(logits_of(x), batch.labels)",
        "-loss(logits_of(x), batch.labels, batch.targets)",
        OF_SUITE,
    ),
    Fault(
        STAGES, "FAB's points beyond the radius count", "where(is_outside, batch.images, points)", "points", OF_SUITE
    ),
    Fault(STAGES, "ten targets", "TARGETS = 9", "TARGETS = 10", OF_SUITE),
    Fault(STAGES, "Square begins anew in each part", "run == 0,", "run >= 0,", OF_SUITE),
    Fault(
        STAGES,
        "the order of the standard",
        "[of.apgd_ce(), of.apgd_t(), of.fab_t(), of.square()]",
        "[of.apgd_t(), of.apgd_ce(), of.fab_t(), of.square()]",
        OF_SUITE,
    ),
    Fault(
        STAGES,
        '100 steps become 50 in "rand"',
        "of.apgd_ce(runs=1, staged=False, gradients=20)",
        "of.apgd_ce(runs=1, staged=False, gradients=20, steps=50)",
        OF_SUITE,
    ),
)
