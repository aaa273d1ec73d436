"""What is paired by itself, and how its rows are read: by one process or several."""

# What other packages may use: module.name.
SHOWN = (
    "pairers.Losses",
    "pairers.Pairers",
    "readers.Readers",
    "runs.Runs",
    "whole.WholeBlocks",
)
