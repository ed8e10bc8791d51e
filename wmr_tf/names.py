"""The names that people choose by, known without TensorFlow, which takes seconds to import.

What they stand for is in the registries (`wmr_tf.methods.BY_NAME`, `wmr_tf.attacks.NORMS`, ...); tests/test_names.py
compares these with the names here.
"""

import dataclasses
from typing import Any

DATASETS = ("digits", "mnist", "cifar10", "tiny_imagenet")
COLORS = ("rgb", "grayscale")
"""Into which images of one's own are turned."""

AUGMENTATIONS = ("none", "crop_flip", "crop_flip_color", "rotate_zoom")
"""How training images are changed at random."""

ARCHITECTURES = ("digits_cnn", "small_cnn", "thin_resnet", "resnet20", "resnet18", "wide_resnet_34_10")
WITH_BATCH_NORM = ("thin_resnet", "resnet20", "resnet18", "wide_resnet_34_10")
"""Those of them whose update needs the batch as a whole."""

APPLICATION = "keras.applications:"
"""What comes before the name of a network of `keras.applications`."""

# fmt: off
APPLICATIONS = (
    "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge", "DenseNet121",
    "DenseNet169", "DenseNet201", "EfficientNetB0", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3",
    "EfficientNetB4", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7", "EfficientNetV2B0", "EfficientNetV2B1",
    "EfficientNetV2B2", "EfficientNetV2B3", "EfficientNetV2L", "EfficientNetV2M", "EfficientNetV2S",
    "InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small",
    "NASNetLarge", "NASNetMobile", "ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2",
    "VGG16", "VGG19", "Xception",
)
# fmt: on
"""The networks of `keras.applications`."""

NORMS = ("linf", "l2", "l1")
PRECISIONS_OF_ATTACKS = ("float32", "bfloat16")
SUITES = ("standard", "plus", "rand", "quick", "strong", "short")
RADII = ("fab", "fab+apgd")

THREADS = ("auto", "tensorflow")
"""How a command uses the cores of the processor."""

STARTS = ("uniform", "gaussian", "none")
"""Where PGD starts."""

NOISE = "noise"
"""The start of N-FGSM, which is an attack of its own."""

ON_MASKED = ("warn", "stop", "roll_back")
"""What `wmr_tf.callbacks.RobustEvaluation` can do when a classifier begins to hide from the test attack."""

ON_DIVERGENCE = ("stop", "rollback")
"""What `wmr_tf.callbacks.ExactResume` can do when a training diverges."""

WEIGHTINGS: dict[str, dict[str, Any]] = {
    "exponential": {"alpha": None, "stop_gradient": False, "normalize": False},
    "uniform": {},
    "mail": {"slope": 1.0, "bias": -1.5},
    "gairat": {"shift": -1.0},
    "cvar": {"level": None},
    "kl_ball": {"rho": None},
}
"""The weightings, each with its settings and their defaults, None where there is none."""

OF_THE_PATH = ("gairat",)
"""Those of them that need to know which steps of the attack an image withstood."""


@dataclasses.dataclass(frozen=True)
class Takes:
    """What a training method takes.

    Attributes:
        settings: The arguments of its constructor.
        starts: Where its attack may start.
        steps: How many steps its attack must make, None if any number will do.
        path: Whether it can tell a weighting which steps of its attack an image withstood.
        descends: Whether it takes the gradient of a step from one pass, so that weights can be perturbed before it.
    """

    settings: tuple[str, ...]
    starts: tuple[str, ...] = (*STARTS, NOISE)
    steps: int | None = None
    path: bool = True
    descends: bool = True


_AT_RANDOM = ("uniform", "gaussian", NOISE)

METHODS = {
    "natural": Takes(()),
    "pgd": Takes(("attack", "alpha")),
    "trades": Takes(("attack", "beta", "alpha"), starts=_AT_RANDOM),
    "mart": Takes(("attack", "beta", "alpha")),
    "mixed": Takes(("attack", "adversarial_weight", "alpha")),
    "fast": Takes(("attack", "alpha"), starts=_AT_RANDOM, steps=1),
    "n_fgsm": Takes(("attack", "alpha"), starts=_AT_RANDOM, steps=1, path=False),
    "free": Takes(("attack", "replays", "alpha"), starts=("none",), steps=1, path=False, descends=False),
    "yopo": Takes(("attack", "passes", "split", "alpha"), starts=STARTS, path=False, descends=False),
    "iaat": Takes(
        ("attack", "examples", "radius_growth", "radius_smoothing", "warmup_epochs", "epsilon_max", "alpha"),
        starts=STARTS,
    ),
}
"""The training methods."""


def log_key(name: str, alpha: float) -> str:
    """Return the key in `logs` of A_sa or A_tr at an alpha, without a dot: "val_A_sa_1p5" for A_sa at 1.5."""
    return f"val_{name}_{alpha:g}".replace(".", "p")
