"""Compare two models under attack at equal confidence, since smaller logits alone raise A_sa.

python -m trainers.matched runs/BASELINE/best.keras runs/OTHER/best.keras --dataset=mnist --eval_examples=2000

Divides the other model's logits by the temperature at which its mean top probability on clean validation images is the
baseline's, and evaluates both models, and the other one also as it is.
"""

import dataclasses

from trainers.cli import Command
from trainers.quiet import late
from trainers.settings.base import COMMON, arguments, setting
from trainers.settings.dataset import Dataset
from trainers.settings.evaluation import Evaluation, trust_flag
from wmr_tf.checks import require
from wmr_tf.names import DATASETS
from wmr_tf.saving import model_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair(Dataset):
    """Two models, and the test images that they are compared on."""

    models: tuple[str, ...] = arguments()
    dataset: str = setting(
        "Data set, or images of your own: a folder, an .npz file or tfds:NAME.",
        "mnist",
        also="data",
        choices=DATASETS,
        section=COMMON,
    )
    eval_examples: int | None = setting("How many test images to evaluate, the first ones.", unset="all")
    trust: bool = trust_flag()

    def __post_init__(self) -> None:
        fix = "Write python -m trainers.matched BASELINE.keras OTHER.keras."
        require(len(self.models) == 2, "command line", got=f"{len(self.models)} models", expected="two", fix=fix)
        super().__post_init__()
        self.evaluation()

    def check_place(self) -> None:
        """Check that the models and the folder of data sets are there; see `Settings.check_place`."""
        for path in self.models:
            model_file(path)
        self.evaluation().check_place()

    def use_threads(self) -> None:
        """Give each core its own part of a batch; see `Settings.use_threads`."""
        self.evaluation().use_threads()

    def evaluation(self) -> Evaluation:
        """Return the data and the test attack."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(Dataset)}
        return Evaluation.of(**data, eval_examples=self.eval_examples, trust=self.trust)


COMMAND = Command(Pair, late("trainers.comparison.matching:compare"))

if __name__ == "__main__":
    COMMAND()
