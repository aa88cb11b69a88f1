"""Text of files, jobs and environments, as a terminal can be given it."""


def printable(text: object) -> str:
    """Return text on one line, with what a terminal would act on escaped.

    Control characters, line breaks, marks that turn the direction of writing, halves of surrogate
    pairs: a file could clear the screen with them, or forge a line.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def printable_lines(text: str) -> str:
    """Return a message of several lines with each of them printable; tabs stay."""
    lines = text.split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
