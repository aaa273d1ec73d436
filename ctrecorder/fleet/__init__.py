"""One question to many routers: the list of them, asking each, and one verdict"""

# What other packages may use: module.name.
SHOWN = (
    "asking.ask",
    "listing.RemoteList",
    "listing.merged",
    "routers.Router",
    "routers.read",
    "shown.csv",
    "shown.text",
    "shown.twin",
    "verdict.judged",
)
