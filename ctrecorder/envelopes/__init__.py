"""A stranger's letter, opened in bounds: its parts as texts, and what stands in them, with places.

Nothing is fetched, and nothing is written.
"""

from __future__ import annotations

# What other packages may use: module.name.
SHOWN = (
    "bounds.Budget",
    "bounds.MAX_BYTES",
    "bounds.MAX_DEPTH",
    "bounds.MAX_LINE",
    "bounds.MAX_SEEN",
    "bounds.MAX_SIGHTINGS",
    "bounds.MAX_WORDS",
    "bounds.MIB",
    "bounds.Refused",
    "clock.Clock",
    "clock.begin",
    "clock.known",
    "endpoints.Endpoint",
    "endpoints.address",
    "endpoints.ambiguous",
    "endpoints.find",
    "endpoints.port",
    "endpoints.protocol",
    "endpoints.whole",
    "jsontext.BadJson",
    "jsontext.Value",
    "jsontext.parse",
    "labels.Label",
    "labels.by_name",
    "labels.paragraphs",
    "mime.Header",
    "mime.Mail",
    "mime.Part",
    "mime.is_mail",
    "mime.parse_file",
    "mime.parse_headers",
    "mime.parse_mail",
    "text.Field",
    "text.Text",
    "text.as_utf8",
    "text.decode",
    "unpack.Broken",
    "unpack.GZIP",
    "unpack.ZIP",
    "unpack.gunzip",
    "unpack.unzip",
)
