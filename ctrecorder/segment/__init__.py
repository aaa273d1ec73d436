"""One segment file: opened, read, appended to, locked."""

# What other packages may use: module.name.
SHOWN = (
    "blockfile.BlockFile",
    "blockfile.Scan",
    "files.first_free",
    "files.open_file",
    "live.FOLDER",
    "live.LiveState",
    "live.Publisher",
    "live.make_folder",
    "live.read_live_state",
    "liveness.is_live",
    "pending.PendingBlock",
    "pending.addresses_block",
    "pending.gap_block",
    "pending.mark_block",
    "pending.table_blocks",
    "reader.Bounds",
    "reader.Segment",
    "recording.Block",
    "recording.Recording",
    "recording.family_of",
    "writer.FileLocation",
    "writer.SegmentWriter",
    "writer.WriteError",
)
