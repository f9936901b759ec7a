"""3MF print files: millimetres, one named object a part, the same bytes every time."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from sacroplan.banner import BANNER
from sacroplan.errors import FormatError
from sacroplan.formats.atomic import replaced_file
from sacroplan.geometry.frames import DEFAULT_FRAME
from sacroplan.geometry.surface import Surface

_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_OWN = "https://sacroplan.invalid/3mf"
_DATE = (1980, 1, 1, 0, 0, 0)
_CHUNK = 100_000
_LEVEL = 1
"""Deflate level: six takes twice the time for a file a fifth smaller."""
MATERIAL_ID = 1
"""Number of the base material, where a model has one."""

_STANDARD = {"Title", "Designer", "Description", "Copyright", "LicenseTerms", "Rating",
             "Application"}  # fmt: skip

_CONTENT_TYPES = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" '
    'ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>'
    "</Types>\n"
)
_RELATIONS = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Target="/3D/3dmodel.model" Id="rel0" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>\n'
)


def _rows(template: str, values: npt.NDArray[np.generic]) -> Iterator[bytes]:
    """``template`` filled with each row of ``values``, a chunk of rows at a time."""
    for start in range(0, len(values), _CHUNK):
        block = values[start : start + _CHUNK]
        yield ((template * len(block)) % tuple(block.ravel().tolist())).encode("ascii")


def _metadata(title: str, metadata: Mapping[str, str]) -> Iterator[str]:
    entries = {"Title": title, "Application": "sacroplan", "Description": BANNER}
    for key, value in metadata.items():
        if key in ("Title", "Description"):
            raise FormatError(f"The 3MF entry {key!r} is reserved; choose another name.")
        if not re.fullmatch(r"[A-Za-z_][\w.\-]*", key):
            raise FormatError(
                f"{key!r} is no name for a 3MF entry; letters, digits, '_', '.', '-'."
            )
        entries[key if key in _STANDARD else f"sp:{key}"] = str(value)
    for key, value in entries.items():
        yield f"<metadata name={quoteattr(key)}>{escape(value)}</metadata>\n"


def head(
    title: str,
    metadata: Mapping[str, str],
    material: str | None,
    extensions: Mapping[str, str] | None = None,
) -> bytes:
    """Begin of a model, up to its first object.

    ``material`` becomes the base material :data:`MATERIAL_ID`. ``extensions`` gives prefix and namespace of
    the ones that a reader must know.
    """
    more = "".join(f" xmlns:{p}={quoteattr(n)}" for p, n in (extensions or {}).items())
    if extensions:
        more += f' requiredextensions="{" ".join(extensions)}"'
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}" xmlns:sp="{_OWN}"{more}>\n'
        + "".join(_metadata(title, metadata))
        + "<resources>\n"
    )
    if material is not None:
        text += (
            f'<basematerials id="{MATERIAL_ID}"><base name={quoteattr(material)} '
            'displaycolor="#8D99A6FF"/></basematerials>\n'
        )
    return text.encode()


def opened(number: int, name: str, material: str | None, more: str = "") -> bytes:
    """Begin of an object, up to its ``mesh``."""
    of = "" if material is None else f' pid="{MATERIAL_ID}" pindex="0"'
    return f'<object id="{number}" type="model" name={quoteattr(name)}{of}{more}>'.encode()


def mesh_of(surface: Surface) -> Iterator[bytes]:
    """The ``mesh`` of a surface."""
    yield b"<mesh><vertices>\n"
    # + 0.0 turns -0.0 into 0.0; nine digits are a nanometre at patient scale.
    yield from _rows('<vertex x="%.9g" y="%.9g" z="%.9g"/>\n', surface.vertices + 0.0)
    yield b"</vertices><triangles>\n"
    yield from _rows('<triangle v1="%d" v2="%d" v3="%d"/>\n', surface.faces)
    yield b"</triangles></mesh>"


def tail(numbers: Sequence[int]) -> bytes:
    """End of a model that builds the objects ``numbers``."""
    items = "".join(f'<item objectid="{n}"/>' for n in numbers)
    return f"</resources>\n<build>{items}</build>\n</model>\n".encode()


def _model(
    parts: Sequence[tuple[str, Surface]],
    title: str,
    metadata: Mapping[str, str],
    material: str | None,
) -> Iterator[bytes]:
    yield head(title, metadata, material)
    first = 1 if material is None else MATERIAL_ID + 1
    for number, (name, surface) in enumerate(parts, start=first):
        yield opened(number, name, material)
        yield from mesh_of(surface)
        yield b"</object>\n"
    yield tail(range(first, first + len(parts)))


def write_3mf(
    parts: Sequence[tuple[str, Surface]],
    path: str | os.PathLike[str],
    title: str,
    metadata: Mapping[str, str] | None = None,
    material: str | None = None,
) -> None:
    """Write closed surfaces (LPS mm) as one 3MF file, each an object of its own with its name.

    ``metadata`` entries stand in the file under the ``sp`` namespace; the research-only banner is
    its Description; ``material`` names what every part is made of. Same parts, same bytes.

    Raises
    ------
    GeometryError : a part is empty, open or inside out.
    FormatError : no part, two parts of one name, or a failed write.
    """
    if not parts:
        raise FormatError(f"{path}: there is no part to write.")
    names = [name for name, _ in parts]
    if len(set(names)) < len(names):
        raise FormatError(f"{path}: two parts carry the same name: {sorted(names)}.")
    for name, surface in parts:
        surface.require_closed(name)

    write_package(path, _model(parts, title, metadata or {}, material))


def write_package(path: str | os.PathLike[str], model: Iterable[bytes]) -> None:
    """Write the pieces of a ``3dmodel.model`` as a 3MF file, whole or not at all."""

    def entry(name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        # A streamed entry takes its level from here only; the name became public in Python 3.13.
        setattr(info, "compress_level" if sys.version_info >= (3, 13) else "_compresslevel", _LEVEL)
        info.create_system = 3
        info.external_attr = 0o644 << 16
        return info

    with (
        replaced_file(path) as stream,
        zipfile.ZipFile(stream, "w") as archive,
    ):
        archive.writestr(entry("[Content_Types].xml"), _CONTENT_TYPES)
        archive.writestr(entry("_rels/.rels"), _RELATIONS)
        with archive.open(entry("3D/3dmodel.model"), "w", force_zip64=True) as target:
            for block in model:
                target.write(block)


def read_3mf(
    path: str | os.PathLike[str], frame: str = DEFAULT_FRAME
) -> tuple[list[tuple[str, Surface]], dict[str, str]]:
    """Named parts (mm) and metadata of a 3MF file with plain meshes and no transforms.

    Raises
    ------
    FormatError : not a 3MF file, another unit, or features this reader does not know.
    """
    file = Path(path)
    try:
        with zipfile.ZipFile(file) as archive, archive.open("3D/3dmodel.model") as model:
            return _parse(model, file, frame)
    except (zipfile.BadZipFile, KeyError, OSError, ElementTree.ParseError) as error:
        raise FormatError(f"{file} is not a readable 3MF file: {error}.") from error


def _parse(
    model: IO[bytes], path: Path, frame: str
) -> tuple[list[tuple[str, Surface]], dict[str, str]]:
    tag = f"{{{_CORE}}}"
    root = ElementTree.parse(model).getroot()
    if root.get("unit", "millimeter") != "millimeter":
        raise FormatError(f"{path} is in {root.get('unit')!r}; millimetres are needed.")
    if root.find(f".//{tag}component") is not None or any(
        item.get("transform") for item in root.iter(f"{tag}item")
    ):
        raise FormatError(f"{path} places its parts by transforms; export plain meshes.")
    metadata = {
        str(m.get("name")).removeprefix("sp:"): m.text or "" for m in root.iter(f"{tag}metadata")
    }
    parts = []
    for thing in root.iter(f"{tag}object"):
        v = [(p.get("x"), p.get("y"), p.get("z")) for p in thing.iter(f"{tag}vertex")]
        f = [(t.get("v1"), t.get("v2"), t.get("v3")) for t in thing.iter(f"{tag}triangle")]
        surface = Surface(np.array(v, dtype=np.float64), np.array(f, dtype=np.int32), frame)
        parts.append((thing.get("name", ""), surface))
    return parts, metadata
