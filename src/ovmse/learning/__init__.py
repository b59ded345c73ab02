"""The compiled part of a run, for one seed and for all: replay, updates, phases, play, evaluation."""
