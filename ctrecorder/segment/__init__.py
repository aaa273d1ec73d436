"""One segment file: opened, read, appended to, locked."""

# What other packages may use: module.name.
SHOWN = (
    "blockfile.BlockFile",
    "blockfile.Scan",
    "files.first_free",
    "files.is_live",
    "files.open_file",
    "reader.Block",
    "reader.Query",
    "reader.Segment",
    "writer.FileLocation",
    "writer.SegmentWriter",
)
