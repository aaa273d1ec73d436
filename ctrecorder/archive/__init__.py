"""A folder of segments: finding them, locking them, retention, the chain."""

# What other packages may use: module.name.
SHOWN = (
    "find.FolderListing",
    "find.Span",
    "find.find",
    "find.sniff",
    "lock.BusyError",
    "lock.Held",
    "lock.clear_leavings",
    "lock.hashes",
    "lock.locked",
    "lock.successor",
    "lock.successor_path",
    "open.open_segment",
    "retention.Hold",
    "retention.Receipt",
    "retention.add_hold",
    "retention.add_receipt",
    "retention.exclusive",
    "retention.holds",
    "retention.receipts",
    "retention.release_hold",
)
