"""Rows of many tables and segments in one order of time, in bounded memory."""

# What other packages may use: module.name.
SHOWN = (
    "batches.Batch",
    "batches.SortedRows",
    "batches.batches_of",
    "by_column.columns_of",
    "by_column.in_order",
    "by_column.key_of",
    "by_column.reversed_order",
    "external_sort.Key",
    "external_sort.Keys",
    "external_sort.Sorter",
    "last.chosen_rows",
    "last.last",
    "merge.merge",
)
