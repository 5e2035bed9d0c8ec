"""The namespaces of office files, and a writer of PDF."""

from __future__ import annotations

from collections.abc import Sequence

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
NAMES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "r": f"{OFFICE}/relationships",
        "m": f"{OFFICE}/math",
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
        "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
        "pic": "http://schemas.openxmlformats.org/drawingml/2006/picture",
        "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
        "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "w14": "http://schemas.microsoft.com/office/word/2010/wordml",
        "v": "urn:schemas-microsoft-com:vml",
    }.items()
)


def shown(x: float, y: float, text: str, *, size: float = 11, font: str = "F1", before: str = "") -> str:
    """Return the operators that show a text as an object of its own."""
    escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return f"BT {before} /{font} {size} Tf 1 0 0 1 {x} {y} Tm ({escaped}) Tj ET\n"


def pdf(*pages: str, annotations: Sequence[str] = (), root: str = "", objects: Sequence[str] = ()) -> bytes:
    """Return a file of pages in Helvetica (F2: bold). ``annotations`` are on the first page, ``objects`` from
    number 11 on."""
    count = len(pages)
    first = 11 + len(objects)
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(count))
    made = {
        1: f"<</Type /Catalog /Pages 2 0 R {root}>>",
        2: f"<</Type /Pages /Kids [{kids}] /Count {count} /MediaBox [0 0 595 842] "
        "/Resources <</Font <</F1 3 0 R /F2 4 0 R>>>>>>",
        3: "<</Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding>>",
        4: "<</Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding>>",
        **dict(enumerate(objects, start=11)),
    }
    for number, page in enumerate(pages):
        held = f"/Annots [{' '.join(annotations)}]" if annotations and not number else ""
        made[first + 2 * number] = (
            f"<</Type /Page /Parent 2 0 R /Contents {first + 2 * number + 1} 0 R {held}>>"
        )
        made[first + 2 * number + 1] = f"<</Length {len(page)}>>\nstream\n{page}\nendstream"
    body = "".join(f"{number} 0 obj {text} endobj\n" for number, text in made.items())
    return f"%PDF-1.7\n{body}trailer <</Root 1 0 R>>\n%%EOF".encode("cp1252")
