"""The parts of the peers' bench: data, adapters, worker, report. Knows nothing of the command line."""
