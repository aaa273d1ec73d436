"""What a setting is: the kinds of its values, and what happens if it is wrong"""

# What other packages may use: module.name.
SHOWN = (
    "setting.Section",
    "setting.Setting",
    "setting.WhenWrong",
    "shipping.SHIP",
    "values.ASKED",
    "values.CLICKHOUSE",
    "values.Value",
    "values.choice",
    "values.duration",
    "values.key",
    "values.match_target",
    "values.mode",
    "values.name",
    "values.networks",
    "values.number",
    "values.or_none",
    "values.path",
    "values.protocols",
    "values.router",
    "values.size",
    "values.size_or_share",
    "values.switch",
    "values.template",
)
