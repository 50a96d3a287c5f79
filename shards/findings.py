"""The findings that the field predicts, in the column order of the published predictions."""

NIH_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""ChestX-ray14's findings (Wang et al., CVPR 2017, with the six added in 2017), ordered as in reproduce-chexnet's
``preds.csv`` and ``aucs.csv``."""

FOLDS = ("train", "val", "test")
