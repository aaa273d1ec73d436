"""Renders tables as text, JSON and CSV."""

# What other packages may use: module.name.
SHOWN = (
    "coverage.json_text",
    "coverage.rfc3339",
    "coverage.text",
    "header.as_json",
    "header.classic",
    "header.text",
    "holes.as_json",
    "holes.describe",
    "holes.expired",
    "holes.reason",
    "holes.why",
    "renderer.Renderer",
    "timeline.Coverage",
    "timeline.CoverageHole",
    "timeline.CoveredSpan",
    "timeline.Window",
    "who.Holder",
    "who.as_json",
    "who.began",
    "who.ended",
    "who.holders",
    "who.joined",
    "who.lines",
    "who.rfc3339",
)
