"""Write docs/phantom_sheet.png: fifty drawn radiographs, unmarked above, with their boxes below.

    python docs/phantom_sheet.py [OUT.png]

The images are the first fifty of the phantom's training split, none left out.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from harness.plugins import load_file

HERE = Path(__file__).parent
COLUMNS, ROWS, SIDE, CAPTION, GAP = 10, 5, 144, 24, 4  # images across and down, pixels
SHORT = ("Atel", "Card", "Effus", "Infil", "Mass", "Nod", "Pneumonia", "Ptx")
COLOURS = ("#ffd166", "#ef476f", "#06d6a0", "#ff99c8", "#c77dff", "#80ed99", "#4cc9f0", "#ff7b00")
GROUND, PLAIN = "#101418", "#8a949e"


def sheet() -> Image.Image:
    """Return the sheet: COLUMNS x ROWS images twice, captions and boxes in the lower half."""
    phantom = load_file(HERE.parent / "datasets" / "phantom.py")
    dataset = phantom.Phantom(n_train=COLUMNS * ROWS, n_validation=1, n_test=1)
    index = dataset.index(Path())
    wide, high = SIDE + GAP, SIDE + CAPTION + GAP
    page = Image.new("RGB", (COLUMNS * wide + GAP, ROWS * (wide + high) + 2 * GAP), GROUND)
    brush = ImageDraw.Draw(page)
    for k, row in enumerate(index.samples.to_dict("records")[: COLUMNS * ROWS]):
        drawn = Image.fromarray(dataset.read(row, Path())).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        left, top = GAP + (k % COLUMNS) * wide, GAP + (k // COLUMNS) * wide
        page.paste(drawn, (left, top))
        top = 2 * GAP + ROWS * wide + (k // COLUMNS) * high
        page.paste(drawn, (left, top))
        for box in index.boxes[index.boxes["id"] == row["id"]].itertuples():
            corners = [left + box.x0 * SIDE, top + box.y0 * SIDE, left + box.x1 * SIDE, top + box.y1 * SIDE]
            brush.rectangle(corners, outline=COLOURS[index.classes.index(str(box.class_name))])
        present = np.flatnonzero(index.labels[k])
        for n, c in enumerate(present[:4]):
            at = (left + 2 + (n % 2) * SIDE // 2, top + SIDE + (n // 2) * 11)
            brush.text(at, SHORT[c], fill=COLOURS[c], font_size=10)
        if not len(present):
            brush.text((left + 2, top + SIDE), "no finding", fill=PLAIN, font_size=10)
    # 80 greys and the captions' colours keep the file small.
    palette = Image.new("P", (1, 1))
    shades = [round(255 * k / 79) for k in range(80) for _ in range(3)]
    palette.putpalette(shades + [v for colour in (*COLOURS, GROUND, PLAIN) for v in ImageColor.getrgb(colour)])
    return page.quantize(palette=palette, dither=Image.Dither.NONE)


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "phantom_sheet.png"
    sheet().save(out, optimize=True)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB", file=sys.stderr)
