"""Off-policy evaluation: choosing a team by a log alone, before any online step. `docs/selection.md` explains."""
