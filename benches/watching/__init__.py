"""The parts of the watcher's bench: trainings, ways, measurement, report. Knows nothing of the command line."""
