"""Squeezing and expiry."""

# What other packages may use: module.name.
SHOWN = (
    "expire.Expiry",
    "expire.Limits",
    "expire.undated",
    "holds.hold",
    "holds.release",
    "holds.show",
    "holds.show_held",
    "metrics.archive_values",
    "squeeze.SqueezeOptions",
    "squeeze_all.ArchiveSqueeze",
)
