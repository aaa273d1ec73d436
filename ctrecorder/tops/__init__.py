"""Tops: what occurs most, counted exactly and in bounded memory."""

# What other packages may use: module.name.
SHOWN = (
    "count.Counted",
    "count.Tops",
    "fields.Field",
    "fields.Measure",
    "fields.parse",
    "shown.amount_text",
    "shown.lines",
    "shown.texts",
    "shown.title",
)
