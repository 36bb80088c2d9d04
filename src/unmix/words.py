"""How figures are said in words, so that one of a thing is not told as several."""


def counted(number: float, what: str) -> str:
    """Return so many of something, as `1 song` and `2 songs`."""
    figure = str(number) if isinstance(number, int) else f"{number:g}"
    return f"{figure} {what}" if number == 1 else f"{figure} {what}s"


def were(number: float) -> str:
    """Return the verb that goes with so many."""
    return "was" if number == 1 else "were"
