"""Letters as cases: asked, compared and remembered; a reply is drafted."""

# What other packages may use: module.name.
SHOWN = (
    "letter.LetterAnswered",
    "letter.answer_letters",
    "letter.questions_of",
    "reply.draft",
    "screen.framed",
    "screen.questions",
    "screen.text",
    "state.State",
    "table.head_of_letters",
    "table.of_letter",
    "table.with_rows_of",
    "twin.letter_head",
    "twin.letter_twin",
)
