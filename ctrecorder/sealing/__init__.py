"""The key of a recording on this machine, and what uses it: its state, its ledger, its epochs."""

# What other packages may use: module.name.
SHOWN = (
    "examine.SealCheck",
    "examine.imported",
    "examine.sealed_segment",
    "ledgerfile.read_ledger",
    "live.LiveSeals",
    "locate.any_key",
    "locate.configured_state",
    "locate.ledgers",
    "locate.live_state",
    "locate.may_have_key",
    "locate.state_path",
    "setup.set_up",
    "state.NoKeyError",
    "successor.KeyUser",
    "successor.sealed_by",
)
