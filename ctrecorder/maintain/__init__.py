"""Squeezing and expiry."""

# What other packages may use: module.name.
SHOWN = (
    "expire.Expiry",
    "expire.Limits",
    "expire.undated",
    "expire_all.expire_all",
    "holds.hold",
    "holds.release",
    "holds.show",
    "holds.show_held",
    "metrics.archive_values",
    "squeeze.SqueezeOptions",
    "squeeze_all.ArchiveSqueeze",
)
