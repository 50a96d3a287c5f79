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

CHEXPERT_FINDINGS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""CheXpert's and CheXphoto's (Irvin et al., AAAI 2019), in the order of their tables. The fourteenth observation there,
No Finding, says that the others are absent; it is kept as metadata, as ChestX-ray14's No Finding is no finding."""

FOLDS = ("train", "val", "test")
