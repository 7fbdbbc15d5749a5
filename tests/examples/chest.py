"""A tiny ChestX-ray14."""

from pathlib import Path

import numpy as np
from PIL import Image

FINDINGS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
            "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia")  # fmt: skip
ENTRY_HEADER = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
                "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]")  # fmt: skip
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def chestxray14(root: Path, *, patients: int = 70, size: int = 32) -> Path:
    """Write a ChestX-ray14 of two images per patient: every finding in turn, boxes on some test images."""
    folder = root / "ChestX-ray14"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries, boxes, lists = [ENTRY_HEADER], [BOX_HEADER], {"train_val_list.txt": [], "test_list.txt": []}
    for patient in range(patients):
        test = patient >= patients - 14
        for follow_up in range(2):
            name = f"{patient + 1:08d}_{follow_up:03d}.png"
            finding = FINDINGS[patient % 14]
            label = finding if follow_up == 0 else "No Finding"
            entries.append(f"{name},{label},{follow_up},{patient + 1},57,M,PA,2682,2749,0.143,0.143")
            lists["test_list.txt" if test else "train_val_list.txt"].append(name)
            pixels = rng.integers(0, 256, (size, size), np.uint8)
            mode = "RGBA" if patient == 3 else "L"
            Image.fromarray(pixels).convert(mode).save(folder / "images" / name)
            if test and follow_up == 0 and finding in FINDINGS[:8]:
                shown = "Infiltrate" if finding == "Infiltration" else finding
                boxes.append(f"{name},{shown},256.0,128.0,512.0,256.0")
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join(entries) + "\n")
    (folder / "BBox_List_2017.csv").write_text("\n".join(boxes) + "\n")
    for name, names in lists.items():
        (folder / name).write_text("\n".join(names))
    return folder
