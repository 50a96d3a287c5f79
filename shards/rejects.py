"""Images that cannot be packed: how many may be left out, and the list of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from shards.errors import BadInputError

REJECTS = "rejects.csv"


@dataclass(frozen=True)
class Reject:
    """An image that was left out: its row in the study table, its file, and why."""

    row: int
    image_id: str
    path: str
    reason: str


def check_rejects(reasons: Mapping[str, str], max_rejects: int) -> None:
    """Raise BadInputError, which names the first ones, if there are more than `max_rejects`.

    Args:
        reasons: the rejected images' paths to the reasons.
        max_rejects: how many are allowed.
    """
    if len(reasons) > max_rejects:
        named = "; ".join(f"{path}: {reason}" for path, reason in list(reasons.items())[:3])
        raise BadInputError(
            f"{len(reasons)} bad image(s), {max_rejects} allowed: {named}; mend them, or go on with --max-rejects N"
        )
