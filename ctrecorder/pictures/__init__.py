"""Pictures: how many connections began when, in the terminal and as files; bars of a top."""

# What other packages may use: module.name.
SHOWN = (
    "histogram.lines",
    "plot.bars",
    "plot.check",
    "plot.format_of",
    "plot.rates",
    "rates.COLUMNS",
    "rates.MAX_BINS",
    "rates.Offsets",
    "rates.Rates",
    "rates.edges_of",
    "rates.step_for",
)
