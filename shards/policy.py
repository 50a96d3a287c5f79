"""From a table's source labels to labels to train and score with: what uncertain and blank ones count as."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shards.errors import UserError

UNCERTAIN = -1
"""CheXpert's mark of a finding that the radiology report is uncertain about; a blank says that it is not mentioned."""
VALUES = {"ones": 1.0, "zeros": 0.0, "ignore": np.nan}
"""What a label can count as; ignored ones are NaN, which the loss and the metrics leave out."""


@dataclass(frozen=True)
class LabelPolicy:
    """What uncertain labels and blank ones count as, each a key of `VALUES`.

    `per_finding` overrides `uncertain`. The names ones, zeros and ignore are the U-Ones, U-Zeros and U-Ignore of
    Irvin et al., AAAI 2019.
    """

    uncertain: str = "ignore"
    blank: str = "ignore"
    per_finding: Mapping[str, str] = field(default_factory=dict)


def parse_policy(words: Sequence[str], blank: str, findings: Sequence[str]) -> LabelPolicy:
    """Read a policy as users write it: `ones`, `zeros` or `ignore` for all findings, `Edema=ones` for one of them.

    Raises:
        UserError: if a word names no policy or no finding, or stands for one finding, or for all, twice.
    """
    chosen: dict[str, str] = {}
    for word in words:
        finding, _, value = word.rpartition("=")
        if finding and finding not in findings:
            raise UserError(f"--uncertain {word}: no finding {finding!r} in these shards ({', '.join(findings)})")
        if finding in chosen:
            raise UserError(f"--uncertain {word}: a second policy for {finding or 'all findings'}; give one")
        chosen[finding] = _checked("--uncertain", value)
    return LabelPolicy(chosen.pop("", "ignore"), _checked("--blank", blank), chosen)


def apply_policy(labels: np.ndarray, findings: Sequence[str], policy: LabelPolicy) -> np.ndarray:
    """Turn source labels into labels; 1 and 0 stay.

    Args:
        labels: (N, F) float32, of 1 positive, 0 negative, UNCERTAIN and NaN blank.
        findings: the F columns' names.
        policy: what the last two count as.

    Returns:
        (N, F) float32, of 1 positive, 0 negative and NaN unknown.
    """
    uncertain = [VALUES[policy.per_finding.get(finding, policy.uncertain)] for finding in findings]
    known = np.where(np.isnan(labels), VALUES[policy.blank], labels)
    return np.where(labels == UNCERTAIN, np.array(uncertain), known).astype(np.float32)


def _checked(option: str, value: str) -> str:
    if value not in VALUES:
        raise UserError(f"{option} {value}: give one of {', '.join(VALUES)}")
    return value
