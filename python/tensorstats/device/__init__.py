"""Statistics of tensors outside CPU memory, by torch operations, in the types of the core; knows no module."""
