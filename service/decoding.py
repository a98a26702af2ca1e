"""msgspec's errors, taken apart: what is wrong, and where."""

from collections.abc import Iterable


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


def with_members(problem: str, members: Iterable[str]) -> str:
    """msgspec's message; one about a member that a Struct does not have lists those that it has."""
    if not problem.startswith("Object contains unknown field"):
        return problem
    return f"{problem}; it has {', '.join(members)}"
