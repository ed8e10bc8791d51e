"""One file a library, which only its worker process imports: `prepare(task) -> step`, and whether it is EAGER."""
