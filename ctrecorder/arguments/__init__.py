"""The arguments of ctlist: options, paths and expressions, and the query that they make."""

# What other packages may use: module.name.
SHOWN = (
    "ask.ask",
    "ask.inside_addresses",
    "ask.texts_of",
    "files.as_file",
    "files.show_usage",
    "options.asks",
    "options.build_parser",
    "options.sort_words",
    "screen_options.check",
    "top_options.USUAL_LENGTH",
    "top_options.bin_of",
    "top_options.check",
    "top_options.give_back",
)
