import numpy as np
import pytest

from shards.errors import UserError
from shards.policy import LabelPolicy, apply_policy, parse_policy

FINDINGS = ("Edema", "Fracture", "Pneumonia")
NAN = float("nan")
SOURCE = np.array([[1, 0, -1], [-1, NAN, NAN]], np.float32)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (LabelPolicy(), [[1, 0, NAN], [NAN, NAN, NAN]]),
        (LabelPolicy(blank="zeros"), [[1, 0, NAN], [NAN, 0, 0]]),
        (LabelPolicy("ones", "zeros"), [[1, 0, 1], [1, 0, 0]]),
        (LabelPolicy("zeros"), [[1, 0, 0], [0, NAN, NAN]]),
        (LabelPolicy("ones", per_finding={"Pneumonia": "zeros"}), [[1, 0, 0], [1, NAN, NAN]]),
    ],
)
def test_uncertain_and_blank_labels_follow_the_policy(policy: LabelPolicy, expected: list[list[float]]) -> None:
    labels = apply_policy(SOURCE, FINDINGS, policy)
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, np.array(expected, np.float32))


def test_a_policy_is_read_as_it_is_written() -> None:
    assert parse_policy([], "zeros", FINDINGS) == LabelPolicy("ignore", "zeros")
    assert parse_policy(["Edema=ones", "zeros"], "ignore", FINDINGS) == LabelPolicy(
        "zeros", "ignore", {"Edema": "ones"}
    )


@pytest.mark.parametrize(
    ("words", "blank", "message"),
    [
        (["most"], "ignore", "--uncertain most"),
        (["Edema=most"], "ignore", "--uncertain most"),
        (["edema=ones"], "ignore", "no finding 'edema' in these shards .Edema, Fracture"),
        (["ones", "zeros"], "ignore", "second policy for all findings"),
        (["Edema=ones", "Edema=zeros"], "ignore", "second policy for Edema"),
        ([], "half", "--blank half"),
    ],
)
def test_a_word_that_is_no_policy_is_named(words: list[str], blank: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_policy(words, blank, FINDINGS)
