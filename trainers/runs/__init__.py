"""What a command does: a run from its settings to its folder, and the evaluation that it ends with."""
