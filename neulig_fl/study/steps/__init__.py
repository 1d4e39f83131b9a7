"""What a stage can run: one file a step, found by its name.

A step has

- `needs_portland(known)`: whether a Portland has to be trained before it;
- `needs(known)`: entries of share without which it cannot run, each with what else would do;
- `rehearse(rehearsal)`: the rows that it would give, by the rules of the run and without values;
- `run(run)`: the step itself.
"""
