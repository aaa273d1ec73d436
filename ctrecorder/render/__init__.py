"""Renders tables as text, JSON and CSV."""

# What other packages may use: module.name.
SHOWN = (
    "header.as_json",
    "header.classic",
    "header.text",
    "renderer.Renderer",
    "who.as_json",
    "who.holders",
    "who.rfc3339",
    "who.text",
)
