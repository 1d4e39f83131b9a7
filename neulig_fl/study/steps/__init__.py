"""What a stage can run: one file a step, found by its name, with `run(run: StageRun) -> None`."""
