"""An archive in ClickHouse: its list, its segments, and the rows of a question."""

# What other packages may use: module.name.
SHOWN = (
    "manifest.place",
    "source.Store",
)
