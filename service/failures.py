"""Failures of groups of tasks."""


def first_failure(failure: BaseException) -> BaseException:
    """The failure itself, out of the groups in which task groups wrap it: of several, the first.

    The tasks of a group fail together when the first of them does, so the others are consequences.
    """
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
