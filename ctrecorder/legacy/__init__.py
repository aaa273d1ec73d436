"""Files of the C ctrecorder, read as segments."""

# What other packages may use: module.name.
SHOWN = (
    "decompress.Stream",
    "format.HEADER_BYTES",
    "format.MAGIC",
    "format.header_of",
    "format.parse_header",
    "segment.LegacySegment",
)
