"""msgspec's errors, taken apart: what is wrong, and where."""


def problem_and_path(error: Exception) -> tuple[str, str]:
    """What msgspec says is wrong, and the path of the value that it is about.

    msgspec has both in one text, ``Expected `int`, got `str` - at `$.rows[0].day` ``, and offers no
    other way to get at them.

    Args:
        error: a `msgspec.DecodeError`, or another error in decoding, whose text has no path

    Returns:
        the problem; the path such as ``rows[0].day``, empty: it is about the value as a whole
    """
    problem, _, path = str(error).partition(" - at `$")
    return problem, path.strip(".`")
