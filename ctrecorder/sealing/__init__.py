"""The key of a recording on this machine, and what uses it: its state, its ledger, its epochs."""

# What other packages may use: module.name.
SHOWN = (
    "examine.SealCheck",
    "examine.sealed_segment",
    "header.sealed_by",
    "imported.Claimed",
    "imported.Imports",
    "imported.imported",
    "imported.line_of",
    "imported.lines_of",
    "ledgerfile.read_ledger",
    "live.LiveSeals",
    "locate.any_key",
    "locate.configured_state",
    "locate.folder_for_use",
    "locate.ledgers",
    "locate.live_state",
    "locate.may_have_key",
    "locate.state_path",
    "setup.set_up",
    "state.NoKeyError",
    "state.SealError",
    "successor.KeyUser",
)
