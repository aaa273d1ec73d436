"""Rows on a terminal: aligned columns that fit its width, colours, the pager; and templates."""

# What other packages may use: module.name.
SHOWN = (
    "colour.Paint",
    "colour.wanted",
    "fields.Field",
    "fields.Look",
    "fields.durations",
    "fields.field_of",
    "fields.fields_of",
    "fields.items",
    "fields.needs",
    "fields.row_times",
    "fields.sums",
    "grid.ENDS",
    "layout.ASCII",
    "layout.UNICODE",
    "pager.command",
    "pager.paged",
    "selected.Selected",
    "template.Template",
    "view.View",
)
