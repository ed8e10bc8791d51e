"""What the command of a table does: run the rows that are missing, one after the other, and render the table."""

import time
from collections.abc import Sequence

from reproduce import picture, rendering
from reproduce.jobs import Job
from reproduce.processes import Failed, Stopped
from reproduce.results import of_model
from reproduce.settings import Reproduction
from trainers.cli import fail
from wmr_tf.engine.progress import shown_time
from wmr_tf.fit.interrupts import leave, own_command
from wmr_tf.saving import write_text


def make(settings: Reproduction) -> None:
    """Run what is missing of a table, and write its page and picture after each row.

    Raises:
        InvalidInput: If a result that is there has other settings than this command, or is none.
        NotWritten: If a file cannot be written.
        KeyboardInterrupt: After SIGINT, once the row that is running has ended.
        SystemExit: After SIGTERM, with status 143; with 1 if a row failed.
    """
    jobs = [Job(model, seed, settings) for model in settings.chosen for seed in settings.seeds]
    _check_shown(settings)
    missing = [job for job in jobs if not job.is_done()]
    entries = render(settings)  # before hours of training: a page that cannot be written is found now
    print(settings.of_budget.told(settings.of_table, train_examples=settings.train_examples), flush=True)
    kept = len(jobs) - len(missing)
    if kept:
        print(f"{kept} of {len(jobs)} runs are there", flush=True)
    failures = run_all(missing, settings, kept)
    print(f"\n{rendering.as_text(settings, render(settings) if missing else entries)}")
    print(f"\nPage: {settings.page}\nPicture: {settings.picture}", flush=True)
    if failures:
        fail(f"{failures} of {len(missing)} runs failed. Look at the logs; the same command tries again", status=1)


def run_all(missing: Sequence[Job], settings: Reproduction, kept: int) -> int:
    """Run what is missing with a line for each, and return how many failed."""
    seconds: list[float] = []
    failures = 0
    for number, job in enumerate(missing, 1):
        began = time.monotonic()
        print(f"{kept + number} of {kept + len(missing)}: {job.name}, log {job.log}", flush=True)
        try:
            job.run()
        except Stopped as stopped:
            leave(stopped.come, f"{job.folder} keeps what was done", own_command())
        except Failed as failed:
            failures += 1
            print(f"    failed, {failed}", flush=True)
            continue
        seconds.append(time.monotonic() - began)
        left = sum(seconds) / len(seconds) * (len(missing) - number)
        print(f"    took {shown_time(seconds[-1])}; about {shown_time(left)} left", flush=True)
        render(settings)
    return failures


def render(settings: Reproduction) -> rendering.Entries:
    """Write page and picture of the results that are there, and return the table's rows with them."""
    found = {model: of_model(settings.folders["results"], model, settings.budget) for model in settings.of_table.models}
    entries = [(row, found[row.model]) for row in settings.of_table.rows]
    settings.page.parent.mkdir(parents=True, exist_ok=True)
    write_text(settings.page, rendering.as_page(settings, entries))
    picture.draw(entries, settings.picture, title=settings.title)
    return entries


def _check_shown(settings: Reproduction) -> None:
    """Check that the results that the page shows are of this command's settings, those of rows not run here too."""
    for model in settings.of_table.models:
        for found in of_model(settings.folders["results"], model, settings.budget):
            Job(model, found["seed"], settings).is_done()
