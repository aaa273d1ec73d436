"""Rows of many tables and segments in one order of time, in bounded memory."""

# What other packages may use: module.name.
SHOWN = (
    "batches.Batch",
    "batches.SortedRows",
    "batches.batches_of",
    "external_sort.Sorter",
    "last.last",
    "last.rows_of",
    "merge.merge",
)
