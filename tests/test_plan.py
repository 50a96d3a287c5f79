import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from shards.findings import FOLDS
from shards.plan import plan_shards
from shards.shard_file import sample_key
from shards.table import make_study_table


@given(st.integers(0, 5000), st.integers(0, 3), st.integers(0, 2**32))
def test_a_plan_holds_each_row_once_in_shards_of_a_bounded_size(num_train: int, num_val: int, seed: int) -> None:
    num = num_train + num_val
    frame = pd.DataFrame(
        {
            "image_id": [f"{row}_0.png" for row in range(num)],
            "path": "",
            "patient_id": [str(row) for row in range(num)],
            "fold": ["train"] * num_train + ["val"] * num_val,
            "Edema": 0.0,
        }
    )
    shards = plan_shards(make_study_table(frame, ["Edema"]), ["Edema"], seed)
    rows = [sample.row for shard in shards for sample in shard.samples]
    assert sorted(rows) == list(range(num))
    assert rows[num_train:] == list(range(num_train, num))
    assert all(1 <= len(shard.samples) <= 1024 for shard in shards)
    assert [shard.fold for shard in shards] == sorted((shard.fold for shard in shards), key=FOLDS.index)


@given(st.text(max_size=300))
def test_keys_fit_webdataset_and_dali(image_id: str) -> None:
    key = sample_key(image_id)
    assert 0 < len(key) < 80
    assert key.isascii()
    assert not set(key) & set("./ \n")


def test_keys_are_the_names_people_know() -> None:
    assert sample_key("00000001_000.png") == "00000001_000"
    assert sample_key("train/patient00001/study1/view1_frontal.jpg") == "train-patient00001-study1-view1_frontal"
    assert sample_key("a b.png") != sample_key("a_b.png") != sample_key("a.b.png")
