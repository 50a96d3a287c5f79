"""Published AUCs, and the table that sets a run beside them."""

import pandas as pd

from chexnet_fast.metrics import MEAN, mean_auc

CHEXNET_PAPER = {
    "Atelectasis": 0.8094,
    "Cardiomegaly": 0.9248,
    "Effusion": 0.8638,
    "Infiltration": 0.7345,
    "Mass": 0.8676,
    "Nodule": 0.7802,
    "Pneumonia": 0.7680,
    "Pneumothorax": 0.8887,
    "Consolidation": 0.7901,
    "Edema": 0.8878,
    "Emphysema": 0.9371,
    "Fibrosis": 0.8047,
    "Pleural_Thickening": 0.8062,
    "Hernia": 0.9164,
}
"""Rajpurkar et al., CheXNet (arXiv:1711.05225v3), table 2: a random split by patient that was not published."""

REPRODUCE_CHEXNET = {
    "Atelectasis": 0.8180,
    "Cardiomegaly": 0.9090,
    "Effusion": 0.8827,
    "Infiltration": 0.7156,
    "Mass": 0.8377,
    "Nodule": 0.7756,
    "Pneumonia": 0.7617,
    "Pneumothorax": 0.8776,
    "Consolidation": 0.8002,
    "Edema": 0.8945,
    "Emphysema": 0.9316,
    "Fibrosis": 0.8251,
    "Pleural_Thickening": 0.7889,
    "Hernia": 0.9175,
}
"""Zech, reproduce-chexnet, README: the model retrained in 2022, on the shared random split's test fold."""

REPRODUCE_CHEXNET_POSITIVES = {
    "Atelectasis": 7_996,
    "Cardiomegaly": 1_950,
    "Effusion": 9_261,
    "Infiltration": 13_914,
    "Mass": 3_988,
    "Nodule": 4_375,
    "Pneumonia": 978,
    "Pneumothorax": 3_705,
    "Consolidation": 3_263,
    "Edema": 1_690,
    "Emphysema": 1_799,
    "Fibrosis": 1_158,
    "Pleural_Thickening": 2_279,
    "Hernia": 144,
}
"""Positive images of the shared random split's training fold, counted in NIH's labels of 2017."""
REPRODUCE_CHEXNET_IMAGES = 78_468
"""All images of that fold."""


def comparison_table(aucs: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """Set a run's AUCs beside reproduce-chexnet's and the CheXNet paper's.

    Args:
        aucs: as `auc_table` returns.
        intervals: as `auc_intervals` returns.

    Returns:
        `finding`, `auc`, `low`, `high`, `reproduce_chexnet`, `chexnet_paper`, `num_positive`, `num_negative`: one row a
        finding, in the run's order, then the row `Mean`. Fields that do not exist are NaN. A publication's mean is over
        the same findings as the run's; NaN if it misses one of them.
    """
    table = aucs.rename(columns={"label": "finding"})
    table["reproduce_chexnet"] = table["finding"].map(REPRODUCE_CHEXNET).astype(float)
    table["chexnet_paper"] = table["finding"].map(CHEXNET_PAPER).astype(float)
    averaged = table[table["auc"].notna()]
    mean = {
        "finding": MEAN,
        "auc": mean_auc(aucs),
        "reproduce_chexnet": averaged["reproduce_chexnet"].mean(skipna=False),
        "chexnet_paper": averaged["chexnet_paper"].mean(skipna=False),
    }
    table = pd.concat([table, pd.DataFrame([mean])], ignore_index=True)
    table = table.merge(intervals.rename(columns={"label": "finding"}), on="finding", validate="one_to_one")
    counts = ["num_positive", "num_negative"]
    table[counts] = table[counts].astype("Int64")
    return table[["finding", "auc", "low", "high", "reproduce_chexnet", "chexnet_paper", *counts]]
