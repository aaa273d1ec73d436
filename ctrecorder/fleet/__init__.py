"""One question to many routers: the list of them, asking each, and one verdict"""

# What other packages may use: module.name.
SHOWN = (
    "asking.ask",
    "by_router.ByRouter",
    "by_router.at_once",
    "by_router.by_router",
    "by_router.head",
    "by_router.merged",
    "by_router.router_field",
    "listing.RemoteList",
    "listing.merged",
    "routers.Router",
    "routers.read",
    "shown.csv",
    "shown.csv_of_letters",
    "shown.text",
    "shown.twin",
    "verdict.FleetAnswer",
    "verdict.judged",
    "verdict.not_asked",
)
