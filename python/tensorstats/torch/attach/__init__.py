"""What the watcher puts on models and optimizers, and what it knows of them; records and judges nothing."""
