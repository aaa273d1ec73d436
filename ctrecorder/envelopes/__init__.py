"""A stranger's letter, opened in bounds: its parts as texts, and what stands in them, with places.

Nothing is fetched, and nothing is written.
"""

from __future__ import annotations

# What other packages may use: module.name.
SHOWN = ()
