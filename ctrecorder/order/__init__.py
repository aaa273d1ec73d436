"""Rows of many tables and segments in one order of time, in bounded memory."""

# What other packages may use: module.name.
SHOWN = (
    "batches.Batch",
    "external_sort.Sorter",
    "merge.merge",
)
