"""The language of ctfilter(7): expressions compiled to conditions on rows, and to skip tests."""

# What other packages may use: module.name.
SHOWN = (
    "compile.compile_filter",
    "compile.merged",
    "complete.completions",
    "tree.Context",
    "values.parse_network",
    "values.parse_ports",
    "words.begins_expression",
)
