"""Questions to an archive, and their answers."""

# What other packages may use: module.name.
SHOWN = (
    "clock.ClockState",
    "connections.list_connections",
    "coverage.Hole",
    "coverage.NOT_RECORDED",
    "coverage.NOT_RECORDING",
    "coverage.Recording",
    "coverage.Scope",
    "events.list_events",
    "evidence.gather",
    "evidence.live_states",
    "listing.shown_in_listing",
    "listing.verdict_of_listing",
    "many.answer_many",
    "open.Archive",
    "open.ScanStats",
    "open.open_archive",
    "verdict.Completeness",
    "verdict.Verdict",
    "who.Answer",
    "who.WhoQuery",
    "who.parse_end",
    "who.roles",
)
