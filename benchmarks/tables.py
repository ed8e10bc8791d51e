"""What `make bench` measures, table by table."""

import dataclasses

from benchmarks.rounds import Plan, Row
from benchmarks.task import Task

WMR_TF = "wmr_tf"
PLAIN = "plain Keras"
TUNED = "PyTorch tuned"
COMPILED = "PyTorch compiled"
STREAMS = "PyTorch in streams"
PUBLIC = "public TRADES code"
PRECISIONS = ("float32", "bfloat16")
WHAT = {
    WMR_TF: "as a user of it trains, after `wmr_tf.use_all_cores()`.",
    PLAIN: "what a Keras user writes: a `tf.function` with a `GradientTape` over `model(x)`, sign and clip, in a loop.",
    TUNED: "channels last, autocast, clean probabilities once, no gradient or pass that is not needed.",
    COMPILED: "the tuned one with `torch.compile` around the classifier.",
    STREAMS: "the tuned one, each core with one thread and its own share of the batch; gradients are summed (with "
    "BatchNorm the update takes the whole batch).",
    PUBLIC: "the order of operations of `trades.py`: clean logits anew at every step of the attack.",
}
DROPPED = (
    "Rows that said nothing more are no longer measured: Foolbox on PyTorch (slower than on TensorFlow), ART's attack "
    "alone\n(its training steps are nearly all attack), and on ResNet-18, where a step of theirs takes half a minute, "
    "ART and all of\nfloat32 but wmr_tf and PyTorch, tuned."
)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that are measured in turns."""

    title: str
    rows: list[Row]
    plan: Plan


@dataclasses.dataclass(frozen=True)
class Curve:
    """Rows whose tasks differ in one number, which time should be linear in."""

    title: str
    unit: str
    points: list[int]
    rows: list[Row]
    plan: Plan


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much work there is: all of it, or next to none to test the mechanics."""

    images: int
    cnn_steps: int
    resnet_steps: int
    steps: list[int]
    batches: list[int]
    evaluated: list[int]
    matrices: list[int]
    cnn: Plan
    resnet: Plan
    curve: Plan


FULL = Scale(
    images=128,
    cnn_steps=40,
    resnet_steps=10,
    steps=[5, 10, 20, 40],
    batches=[32, 64, 128, 256],
    evaluated=[256, 512, 1024, 2048],
    matrices=[2048, 4096],
    cnn=Plan(rounds=7, seconds=220, at_least=0.5),
    resnet=Plan(rounds=3, seconds=400, at_least=0.5),
    curve=Plan(rounds=5, seconds=45, at_least=0.5),
)
_NO_WORK = Plan(rounds=2, seconds=20, at_least=0.0)
QUICK = Scale(
    images=16,
    cnn_steps=2,
    resnet_steps=2,
    steps=[1, 2],
    batches=[16, 32],
    evaluated=[16, 32],
    matrices=[256],
    cnn=_NO_WORK,
    resnet=_NO_WORK,
    curve=_NO_WORK,
)


_KERAS = {WMR_TF: WMR_TF, PLAIN: "plain_keras"}
_TUNED = _KERAS | {TUNED: "torch_competent", COMPILED: "torch_compiled", STREAMS: "torch_streams"}


def speed_tables(scale: Scale) -> list[Table]:
    """Return the comparisons with the peers."""
    cnn = Task("", "", scale.images, "small_cnn", epsilon=0.3, step_size=0.01, steps=scale.cnn_steps)
    resnet = Task("", "", scale.images, "resnet18", epsilon=0.031, step_size=0.007, steps=scale.resnet_steps)
    mobilenet = dataclasses.replace(resnet, architecture="mobilenet_v3_small")
    return [
        Table(f"TRADES training step, SmallCNN, {cnn.steps} steps", trades_rows(cnn), scale.cnn),
        Table(f"PGD training step, SmallCNN, {cnn.steps} steps", pgd_rows(cnn), scale.cnn),
        Table(f"Attack alone, SmallCNN, PGD-{cnn.steps}", attack_rows(cnn), scale.cnn),
        Table(f"Attack alone, MobileNetV3-small, PGD-{mobilenet.steps}", keras_rows(mobilenet), scale.cnn),
        Table(f"TRADES training step, ResNet-18, {resnet.steps} steps", few(trades_rows(resnet)), scale.resnet),
        Table(f"PGD training step, ResNet-18, {resnet.steps} steps", few(pgd_rows(resnet)), scale.resnet),
    ]


def trades_rows(task: Task) -> list[Row]:
    """Return the rows of TRADES with beta 6."""
    task = dataclasses.replace(task, kind="trades")
    return _in_both_precisions(task, _TUNED | {PUBLIC: "torch_trades"}) + [_row("ART, PyTorch", "art_torch", task)]


def pgd_rows(task: Task) -> list[Row]:
    """Return the rows of PGD adversarial training."""
    task = dataclasses.replace(task, kind="pgd")
    return _in_both_precisions(task, _TUNED) + [_row("ART, TF2", "art_tf", task)]


def attack_rows(task: Task) -> list[Row]:
    """Return the rows of PGD on one batch."""
    task = dataclasses.replace(task, kind="attack")
    peers = {"CleverHans, TF2": "cleverhans_tf", "torchattacks": "torchattacks_torch", "Foolbox, TF2": "foolbox_tf"}
    return _in_both_precisions(task, _TUNED) + [_row(label, library, task) for label, library in peers.items()]


def keras_rows(task: Task) -> list[Row]:
    """Return the rows of PGD on one batch and a network that only Keras has."""
    return _in_both_precisions(dataclasses.replace(task, kind="attack"), _KERAS)


def few(rows: list[Row]) -> list[Row]:
    """Return those rows that say something when a step takes long: float32 of two only, in one round."""
    return [
        dataclasses.replace(row, rounds=1) if row.task.precision == "float32" else row
        for row in rows
        if row.task.precision == "bfloat16" or row.label in (WMR_TF, TUNED)
    ]


def curves(scale: Scale) -> list[Curve]:
    """Return what cost is linear in; SmallCNN, wmr_tf, bfloat16 (an evaluation always attacks in float32)."""
    task = Task(
        "pgd", "bfloat16", scale.images, "small_cnn", epsilon=0.3, step_size=0.01, steps=min(10, scale.cnn_steps)
    )
    evaluation = dataclasses.replace(task, kind="evaluation")

    def curve(title: str, unit: str, points: list[int], tasks: list[Task]) -> Curve:
        rows = [Row(f"{unit}: {point}", WMR_TF, task) for point, task in zip(points, tasks, strict=True)]
        return Curve(title, unit, points, rows, scale.curve)

    return [
        curve(
            f"PGD training step by attack steps, batch {task.size}",
            "steps",
            scale.steps,
            [dataclasses.replace(task, steps=steps) for steps in scale.steps],
        ),
        curve(
            f"PGD training step by batch size, {task.steps} steps",
            "images in a batch",
            scale.batches,
            [dataclasses.replace(task, size=size) for size in scale.batches],
        ),
        curve(
            f"Evaluation by images, PGD-{task.steps}, float32",
            "images evaluated",
            scale.evaluated,
            [dataclasses.replace(evaluation, size=size) for size in scale.evaluated],
        ),
    ]


def matmul_rows(scale: Scale) -> list[Row]:
    """Return products of square matrices, whose best time gives the machine's peak."""
    libraries = {"TensorFlow": WMR_TF, "PyTorch": "torch_competent"}
    return [
        Row(label, library, Task("matmul", precision, size))
        for precision in PRECISIONS
        for size in scale.matrices
        for label, library in libraries.items()
    ]


def _in_both_precisions(task: Task, libraries: dict[str, str]) -> list[Row]:
    return [_row(label, library, task, precision) for label, library in libraries.items() for precision in PRECISIONS]


def _row(label: str, library: str, task: Task, precision: str = "float32") -> Row:
    return Row(label, library, dataclasses.replace(task, precision=precision))
