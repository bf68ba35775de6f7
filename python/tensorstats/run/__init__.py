"""What is kept of a run and how it is read: series, histograms, names, findings; knows no torch."""
