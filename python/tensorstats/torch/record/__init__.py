"""What is recorded of a step, from the first module to its close; judges nothing."""
