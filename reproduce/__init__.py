"""The paper's five tables, each by one command: rows, budgets and rendering over the trainers."""
