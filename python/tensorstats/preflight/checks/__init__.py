"""The checks, one file per family; each asks one question and knows no other check but by its name."""
