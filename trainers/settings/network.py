"""Which network a training trains, in which precision, and on images changed how."""

from __future__ import annotations

import dataclasses

from trainers.quiet import late
from trainers.settings.base import COMMON, DATA, RUN, TRAINING, if_given, setting
from trainers.settings.dataset import Dataset
from trainers.settings.recipes import BySize
from wmr_tf.checks import one_of, require
from wmr_tf.data.source import Source
from wmr_tf.engine import machine
from wmr_tf.names import APPLICATION, APPLICATIONS, ARCHITECTURES, AUGMENTATIONS, WITH_BATCH_NORM
from wmr_tf.saving import model_file

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(Dataset):
    """A new network, or a classifier in a file, and the data that it is trained on."""

    SECTION = TRAINING

    architecture: str = setting(
        "Network: a name, keras.applications:NAME with new weights, or the .keras file of a classifier that returns "
        "logits, whose weights training begins with.",
        also="classifier",
        choices=ARCHITECTURES,
        section=COMMON,
    )
    initialize_from: str | None = setting(
        "A .keras file whose weights to start from; those of its last layer stay out if it is for other classes.",
        unset="none, random weights",
    )
    augment: str | None = setting(
        "How training images are changed at random; crop_flip shifts them by up to 4 pixels and mirrors them, "
        "crop_flip_color also changes brightness and contrast; rotate_zoom turns by up to 10 degrees and zooms by up "
        "to 10 %, and mirrors nothing.",
        choices=AUGMENTATIONS,
        section=DATA,
        unset="crop_flip for cifar10 and tiny_imagenet, else none",
    )
    precision: str = setting(
        "In which numbers to train; auto is bfloat16 where it is native, else float32. Evaluations are in float32.",
        "auto",
        choices=[*PRECISIONS, "auto"],
        section=RUN,
    )

    def check_network(self) -> None:
        """Check all of it, and settle what depends on the images or on this machine.

        Raises:
            InvalidInput: If a setting is out of range, or the images have to be looked at and are not there.
        """
        if isinstance(self.architecture, BySize):
            object.__setattr__(self, "architecture", self.architecture.of(self.source().image_shape))
        if self.is_application:
            one_of("architecture", self.architecture.removeprefix(APPLICATION), APPLICATIONS)
        elif not self.is_own_classifier:
            choices = [*ARCHITECTURES, f"{APPLICATION}NAME", "FILE.keras"]
            one_of("architecture", self.architecture, choices)
        if_given(one_of, "augment", self.augment, AUGMENTATIONS)
        one_of("precision", self.precision, [*PRECISIONS, "auto"])
        if self.precision == "auto":  # settled here, so that every record of the run says what it was
            object.__setattr__(self, "precision", "float32" if self.is_own_classifier else _native_precision())
        require(
            self.precision == "float32" or not self.is_own_classifier,
            "precision",
            got=f"{self.precision} with the classifier {self.architecture!r}",
            expected="float32, since its layers have the precision that they were saved with",
            fix="Leave out --precision.",
        )

    def check_files(self) -> None:
        """Check that the files of a classifier and of weights are there.

        Raises:
            InvalidInput: If one is not.
        """
        if self.initialize_from is not None:
            model_file(self.initialize_from, what="initialize_from")
        if self.is_own_classifier:
            model_file(self.architecture, what="classifier")

    def source(self) -> Source:
        """Return the data set with the augmentation of this training; see `Dataset.source`."""
        source = super().source()
        return source if self.augment is None else dataclasses.replace(source, augment=self.augment)

    @property
    def is_own_classifier(self) -> bool:
        """Whether the network is read from a file."""
        return self.architecture.endswith(".keras")

    @property
    def is_application(self) -> bool:
        """Whether the network is one of `keras.applications`."""
        return self.architecture.startswith(APPLICATION)

    @property
    def may_have_batch_norm(self) -> bool:
        """Whether the update of the network may need the batch as a whole."""
        return self.is_own_classifier or self.is_application or self.architecture in WITH_BATCH_NORM


def _native_precision() -> str:
    on_gpu = late("wmr_tf.engine.precision:has_bfloat16")
    native = on_gpu() if machine.may_have_gpu() else machine.multiplies_bfloat16()
    return "bfloat16" if native else "float32"
