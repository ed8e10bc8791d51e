"""What the studies share: a run is made once for its settings, and a study ends in one file."""

import json

from studies import runs
from trainers import run
from trainers.config import Experiment


def test_a_run_is_made_once_for_its_settings(tmp_path, monkeypatch):
    made = []

    def train(experiment):
        made.append(experiment)
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**vars(experiment)}))
        (folder / "metrics.json").write_text(json.dumps({"A_rob": len(made) / 10}))
        (folder / run.BEST).touch()

    monkeypatch.setattr(run, "train", train)
    experiment = Experiment.of("digits", "pgd", seed=1)
    first = runs.trained(experiment, tmp_path / "run")
    assert first["A_rob"] == 0.1 and first["seconds"] >= 0
    assert runs.trained(experiment, tmp_path / "run") == first
    assert [each.output_dir for each in made] == [str(tmp_path / "run")]
    assert runs.trained(Experiment.of("digits", "pgd", seed=2), tmp_path / "run")["A_rob"] == 0.2


def test_publish_writes_and_prints_the_sections(tmp_path, capsys):
    runs.publish(["# Title", "text"], tmp_path / "new" / "file.md")
    assert (tmp_path / "new" / "file.md").read_text() == "# Title\n\ntext\n"
    assert capsys.readouterr().out == "# Title\n\ntext\n\n"
