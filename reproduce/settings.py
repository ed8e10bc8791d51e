"""What the command of a table takes, checked without TensorFlow."""

import dataclasses
import os
from pathlib import Path

from reproduce.budgets import BUDGETS, Budget
from reproduce.passes import DATA
from reproduce.rows import TABLES, Model, Table
from trainers.settings.base import Settings, if_given, setting
from wmr_tf.checks import at_least, data_folder, one_of, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.extras import need
from wmr_tf.names import SUITES

ALL, NONE = "all", "none"
"""What `--rows` takes beside names."""

QUARTER = "quarter"
"""The budget of the pages that have none in their names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduction(Settings):
    """Which rows of a table are run, for how long, how they are evaluated, and where all of it goes."""

    table: int  # no flag: each table has its door
    budget: str = setting(
        "Training time for each model on two cores of the reference machine.", QUARTER, choices=BUDGETS
    )
    seeds: tuple[int, ...] = setting("Seeds with commas; every model is trained with each.", (0,))
    rows: tuple[str, ...] = setting(
        "Which models to run, names with commas such as trades,trades-alpha2; none only renders what is there.", (ALL,)
    )
    data_dir: str | None = setting(
        "Where tensorflow-datasets keeps prepared data; only read if it is there.", unset="its own folder"
    )
    train_examples: int | None = setting("How many training images there are.", unset="those of the whole set")
    eval_examples: int | None = setting("How many test images to evaluate, the first ones.", unset="all")
    suite: str = setting("Version of AutoAttack beside every A_rob.", "quick", choices=SUITES)
    suite_examples: int = setting("How many test images it attacks, the first ones.", 1000)
    output_dir: str = setting("Folder of the runs; a row that was stopped goes on there.", "runs/reproduce")
    results: str = setting("Folder with a small file for each finished row and seed.", "results/reproduce")
    output: str | None = setting(
        "The page, .md, with its picture beside it.", unset=f"results/tableN.md; tableN_BUDGET.md if not {QUARTER}"
    )

    def __post_init__(self) -> None:
        one_of("table", self.table, TABLES)
        one_of("budget", self.budget, BUDGETS)
        one_of("suite", self.suite, SUITES)
        numbers = [checked_seed(seed) for seed in self.seeds]
        is_set = 1 <= len(numbers) == len(set(numbers))
        expected = "at least one, and none twice"
        require(is_set, "seeds", got=self.seeds or "none", expected=expected, fix="Pass for instance --seeds=0,1,2.")
        self._check_rows()
        data = DATA[self.of_table.dataset]
        if_given(at_least, "train_examples", self.train_examples, 1)
        for name, most in (("eval_examples", data.test_examples), ("suite_examples", self.eval_examples)):
            self._check_images(name, min(most or data.test_examples, data.test_examples))
        is_page = self.page.suffix == ".md"
        fix = "Name a file such as results/table1.md."
        require(is_page, "output", got=repr(self.output), expected="a name that ends in .md", fix=fix)

    def _check_rows(self) -> None:
        names = [model.name for model in self.of_table.models]
        fix = "Pass names with commas, such as --rows=trades,trades-alpha2."
        require(bool(self.rows), "rows", got="nothing", expected=f"{ALL}, {NONE} or names", fix=fix)
        for name in self.rows:
            one_of("rows", name, names if len(self.rows) > 1 else [ALL, NONE, *names])

    def _check_images(self, name: str, most: int) -> None:
        value = getattr(self, name)
        if value is not None:
            is_possible = at_least(name, value, 1) <= most
            require(is_possible, name, got=value, expected=f"at most {most}", fix=f"Lower --{name}.")

    def check_place(self) -> None:
        """Check that data are there and that runs, results and page can be written; see `Settings.check_place`."""
        need("report", "output")
        if self.chosen:
            need("data", "rows")
        if self.data_dir is not None:
            data_folder(self.data_dir)
        for name, folder in self.folders.items():
            there = next(path for path in (folder, *folder.parents) if path.exists())
            is_possible = there.is_dir() and os.access(there, os.W_OK)
            fix = f"Name another one with --{name}."
            require(is_possible, name, got=repr(str(folder)), expected="a folder that can be written", fix=fix)
        for page in (self.page, self.picture):
            fix = "Name another file with --output."
            require(not page.is_dir(), "output", got=repr(str(page)), expected="a file, not a folder", fix=fix)

    @property
    def of_table(self) -> Table:
        """The table."""
        return TABLES[self.table]

    @property
    def of_budget(self) -> Budget:
        """The budget."""
        return BUDGETS[self.budget]

    @property
    def title(self) -> str:
        """What the table shows, at which budget."""
        return f"{self.of_table.title}, budget {self.budget}"

    @property
    def chosen(self) -> list[Model]:
        """The models that are run."""
        return [model for model in self.of_table.models if model.name in self.rows or self.rows == (ALL,)]

    @property
    def folders(self) -> dict[str, Path]:
        """Where files go, by the flag that says so."""
        given = {"output_dir": Path(self.output_dir), "results": Path(self.results), "output": self.page.parent}
        return {name: folder.expanduser() for name, folder in given.items()}

    @property
    def page(self) -> Path:
        """The page's path, which budgets do not share."""
        of_budget = "" if self.budget == QUARTER else f"_{self.budget}"
        return Path(self.output or f"results/table{self.table}{of_budget}.md").expanduser()

    @property
    def picture(self) -> Path:
        """The path of the picture, beside the page."""
        return self.page.with_suffix(".png")
