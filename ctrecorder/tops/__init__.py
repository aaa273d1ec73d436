"""Tops: what occurs most, counted exactly and in bounded memory."""

# What other packages may use: module.name.
SHOWN = (
    "count.Tops",
    "fields.Measure",
    "fields.parse",
    "shown.lines",
)
