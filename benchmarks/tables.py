"""What `make bench` measures, table by table."""

import dataclasses

from benchmarks.rounds import Plan, Row
from benchmarks.task import Task

OURS = "wmr_tf"
PRECISIONS = ("float32", "bfloat16")
PLAIN = "wmr_tf on Keras's layers as they come"
COMPETENT = "PyTorch, as a competent user writes it"
PUBLIC = "PyTorch, as the public TRADES code does it"


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
    cnn=Plan(rounds=7, seconds=120, at_least=0.5),
    resnet=Plan(rounds=3, seconds=300, at_least=0.5),
    curve=Plan(rounds=5, seconds=45, at_least=0.5),
)
_NO_WORK = Plan(rounds=2, seconds=20, at_least=0.0)
QUICK = Scale(
    images=4,
    cnn_steps=2,
    resnet_steps=2,
    steps=[1, 2],
    batches=[4, 8],
    evaluated=[8, 16],
    matrices=[256],
    cnn=_NO_WORK,
    resnet=_NO_WORK,
    curve=_NO_WORK,
)


def speed_tables(scale: Scale) -> list[Table]:
    """Return the comparisons with the peers."""
    cnn = Task("", "", scale.images, "small_cnn", epsilon=0.3, step_size=0.01, steps=scale.cnn_steps)
    resnet = Task("", "", scale.images, "resnet18", epsilon=0.031, step_size=0.007, steps=scale.resnet_steps)
    return [
        Table(f"TRADES training step, SmallCNN, {cnn.steps} steps", trades_rows(cnn), scale.cnn),
        Table(f"PGD training step, SmallCNN, {cnn.steps} steps", pgd_rows(cnn), scale.cnn),
        Table(f"Attack alone, SmallCNN, PGD-{cnn.steps}", attack_rows(cnn), scale.cnn),
        Table(f"TRADES training step, ResNet-18, {resnet.steps} steps", trades_rows(resnet), scale.resnet),
        Table(f"PGD training step, ResNet-18, {resnet.steps} steps", pgd_rows(resnet), scale.resnet),
    ]


def trades_rows(task: Task) -> list[Row]:
    """Return the rows of TRADES with beta 6."""
    task = dataclasses.replace(task, kind="trades")
    libraries = {OURS: "ours", PLAIN: "plain_keras", COMPETENT: "torch_competent", PUBLIC: "torch_trades"}
    return _in_both_precisions(task, libraries) + [_row("ART, PyTorch", "art_torch", task)]


def pgd_rows(task: Task) -> list[Row]:
    """Return the rows of PGD adversarial training."""
    task = dataclasses.replace(task, kind="pgd")
    return _in_both_precisions(task, {OURS: "ours", COMPETENT: "torch_competent"}) + [_row("ART, TF2", "art_tf", task)]


def attack_rows(task: Task) -> list[Row]:
    """Return the rows of PGD on one batch."""
    task = dataclasses.replace(task, kind="attack")
    peers = {
        "CleverHans, TF2": "cleverhans_tf",
        "torchattacks": "torchattacks_torch",
        "Foolbox, PyTorch": "foolbox_torch",
        "Foolbox, TF2": "foolbox_tf",
        "ART, TF2": "art_tf",
    }
    ours = _in_both_precisions(task, {OURS: "ours", COMPETENT: "torch_competent"})
    return ours + [_row(label, library, task) for label, library in peers.items()]


def curves(scale: Scale) -> list[Curve]:
    """Return what cost is linear in; SmallCNN, ours, bfloat16 (an evaluation always attacks in float32)."""
    task = Task(
        "pgd", "bfloat16", scale.images, "small_cnn", epsilon=0.3, step_size=0.01, steps=min(10, scale.cnn_steps)
    )
    evaluation = dataclasses.replace(task, kind="evaluation")

    def curve(title: str, unit: str, points: list[int], tasks: list[Task]) -> Curve:
        rows = [Row(f"{unit}: {point}", "ours", task) for point, task in zip(points, tasks, strict=True)]
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
    libraries = {"TensorFlow": "ours", "PyTorch": "torch_competent"}
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
