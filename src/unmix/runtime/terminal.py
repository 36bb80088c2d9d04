"""Text of any origin on a terminal."""


def printable(line: str) -> str:
    """Return a line without what could steer a terminal or cannot be encoded."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
