"""Questions of who held an address: as they were understood, and answered by person."""

# What other packages may use: module.name.
SHOWN = (
    "ask.Answered",
    "ask.Asking",
    "ask.answer_all",
    "output.write_new",
    "screen.text",
    "table.text",
    "twin.twin",
    "typed.questions",
    "verdicts.code_of_letter",
)
