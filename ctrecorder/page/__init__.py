"""Answers of ctwho as a page, as text for a mail and as a pack of evidence, and their checks."""

# What other packages may use: module.name.
SHOWN = ()
