"""What a try to deliver a notification can end in, but for its success."""


class DeliveryError(Exception):
    """A try that failed; trying again may help.

    Attributes:
        reason: what went wrong, as its first argument.
        after: seconds after which the server asks to be tried again, or None.
    """

    is_final = False

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.after = reason, after


class RefusedError(DeliveryError):
    """A try that the server has refused for good."""

    is_final = True
