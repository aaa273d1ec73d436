"""One segment file: opened, read, appended to, locked."""

# What other packages may use: module.name.
SHOWN = (
    "blockfile.BlockFile",
    "blockfile.Scan",
    "files.first_free",
    "files.is_live",
    "files.open_file",
    "pending.PendingBlock",
    "pending.addresses_block",
    "pending.gap_block",
    "pending.mark_block",
    "pending.table_blocks",
    "reader.Segment",
    "recording.Block",
    "recording.Recording",
    "writer.FileLocation",
    "writer.SegmentWriter",
)
