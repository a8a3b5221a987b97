"""The XML header of ISMRMRD and fastMRI files: matrices, fields of view, limits; read warily, and written."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

NAMESPACE = "http://www.ismrm.org/ISMRMRD"
STEPS = ("kspace_encoding_step_1", "kspace_encoding_step_2")
LARGEST = 1 << 16


@dataclass(frozen=True)
class Encoding:
    """One encoding space. Sizes and fields of view are (z, y, x), x along the readout, [mm]; None: not said.

    limits  of the two phase encodings, {1: (minimum, maximum, centre), 2: …}
    """

    matrix: tuple[int, int, int]
    field_of_view: tuple[float, float, float] | None = None
    recon_matrix: tuple[int, int, int] | None = None
    recon_field_of_view: tuple[float, float, float] | None = None
    limits: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    trajectory: str = "cartesian"

    def centre(self, step: int) -> int:
        """Index of the phase encoding at the centre of k-space, of step 1 or 2."""
        return self.limits[step][2] if step in self.limits else self.matrix[2 - step] // 2


@dataclass(frozen=True)
class Header:
    """Encodings, and what else is worth keeping; the patient's id only as a hash."""

    encodings: tuple[Encoding, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    noise_bandwidth: float | None = None


def parse_header(where: str, text: str) -> Header:
    """The header in `text`; `where` names the file in errors.

    Raises ValueError for text that is no XML, has a DOCTYPE (so no entity is ever expanded), or lacks what an
    encoding needs.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{where}: its XML header has a DOCTYPE, which no ISMRMRD header needs; refused")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{where}: its header is not XML ({error})") from None
    if _tag(root) != "ismrmrdHeader":
        raise ValueError(f"{where}: expected an ismrmrdHeader, got <{_tag(root)[:80]}>")
    encodings = tuple(_encoding(where, e) for e in root if _tag(e) == "encoding")
    if not encodings:
        raise ValueError(f"{where}: its header describes no encoding")
    bandwidth = _number(where, root, "acquisitionSystemInformation", "relativeReceiverNoiseBandwidth")
    return Header(encodings, _attributes(where, root), bandwidth)


def header_xml(encoding: Encoding, coils: int, attributes: Mapping[str, Any] | None = None) -> str:
    """An ISMRMRD header of one Cartesian encoding; of the attributes those that the schema knows."""
    said = {} if attributes is None else attributes
    fov = encoding.field_of_view or tuple(float(n) for n in encoding.matrix)
    spaces = "".join(
        f"<{name}><matrixSize>{_zyx(matrix)}</matrixSize>"
        f"<fieldOfView_mm>{_zyx(lengths)}</fieldOfView_mm></{name}>"
        for name, matrix, lengths in (
            ("encodedSpace", encoding.matrix, fov),
            (
                "reconSpace",
                encoding.recon_matrix or encoding.matrix,
                encoding.recon_field_of_view or fov,
            ),
        )
    )
    limits = "".join(
        f"<{STEPS[k - 1]}><minimum>{a}</minimum><maximum>{b}</maximum><center>{c}</center></{STEPS[k - 1]}>"
        for k, (a, b, c) in sorted(encoding.limits.items())
    )
    field_T = said.get("field_strength_T")
    strength = f"<systemFieldStrength_T>{float(field_T)!r}</systemFieldStrength_T>" if field_T else ""
    frequency = round(42.577478e6 * float(field_T)) if field_T else 0  # of protons, which the schema demands
    times = "".join(f"<{n}>{float(said[n])!r}</{n}>" for n in ("TR", "TE", "TI") if n in said)
    protocol = str(said.get("acquisition", ""))
    # a protocolName would need a patientPosition, which nobody said
    named = "<userParameterString><name>acquisition</name><value>{}</value></userParameterString>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><ismrmrdHeader xmlns="{NAMESPACE}">'
        f"<acquisitionSystemInformation>{strength}<receiverChannels>{coils}</receiverChannels>"
        "</acquisitionSystemInformation><experimentalConditions>"
        f"<H1resonanceFrequency_Hz>{frequency}</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{spaces}<encodingLimits>{limits}</encodingLimits>"
        f"<trajectory>{escape(encoding.trajectory)}</trajectory></encoding>"
        + (f"<sequenceParameters>{times}</sequenceParameters>" if times else "")
        + (f"<userParameters>{named.format(escape(protocol))}</userParameters>" if protocol else "")
        + "</ismrmrdHeader>"
    )


def hashed(patient: str) -> str:
    """Sixteen digits that tell patients apart, and do not name them."""
    return hashlib.sha256(patient.encode()).hexdigest()[:16]


def _encoding(where: str, node: Any) -> Encoding:
    matrix = _three(where, node, "encodedSpace", "matrixSize")
    if matrix is None or not all(v == int(v) and 1 <= v <= LARGEST for v in matrix):
        raise ValueError(f"{where}: encodedSpace: expected a matrix of 1 … {LARGEST} points, got {matrix}")
    z, y, x = (int(v) for v in matrix)
    recon = _three(where, node, "reconSpace", "matrixSize")
    limits = {}
    for k, name in enumerate(STEPS, 1):
        values = [_number(where, node, "encodingLimits", name, n) for n in ("minimum", "maximum", "center")]
        if None not in values:
            limits[k] = tuple(int(v) for v in values)  # type: ignore[arg-type]
    whole = recon is not None and all(v == int(v) and 1 <= v <= LARGEST for v in recon)
    return Encoding(
        matrix=(z, y, x),
        field_of_view=_lengths(_three(where, node, "encodedSpace", "fieldOfView_mm")),
        recon_matrix=tuple(int(v) for v in recon) if recon is not None and whole else None,  # type: ignore[arg-type]
        recon_field_of_view=_lengths(_three(where, node, "reconSpace", "fieldOfView_mm")),
        limits=limits,  # type: ignore[arg-type]
        trajectory=(_find(node, "trajectory") or "cartesian").lower(),
    )


def _attributes(where: str, root: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, *place in (
        ("field_strength_T", "acquisitionSystemInformation", "systemFieldStrength_T"),
        ("TR", "sequenceParameters", "TR"),
        ("TE", "sequenceParameters", "TE"),
        ("TI", "sequenceParameters", "TI"),
        ("flip_angle_deg", "sequenceParameters", "flipAngle_deg"),
    ):
        value = _number(where, root, *place)
        if value is not None:
            found[name] = value
    for name, *place in (
        ("acquisition", "measurementInformation", "protocolName"),
        ("vendor", "acquisitionSystemInformation", "systemVendor"),
    ):
        said = _find(root, *place)
        if said:
            found[name] = said
    for node in (e for p in root if _tag(p) == "userParameters" for e in p):
        if _find(node, "name") == "acquisition":  # as header_xml writes it
            found.setdefault("acquisition", _find(node, "value") or "")
    patient = _find(root, "subjectInformation", "patientID")
    return found | ({"patient_hash": hashed(patient)} if patient else {})


def _three(where: str, node: Any, *place: str) -> tuple[float, float, float] | None:
    values = [_number(where, node, *place, axis) for axis in "zyx"]
    return None if None in values else tuple(values)  # type: ignore[return-value]


def _lengths(values: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    return values if values is not None and all(v > 0 for v in values) else None


def _number(where: str, node: Any, *place: str) -> float | None:
    said = _find(node, *place)
    if said is None or not said.strip():
        return None
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {'/'.join(place)} in its header: expected a number, got {said[:40]!r}")
    return value


def _find(node: Any, *place: str) -> str | None:
    """Text of the first element there, whatever its namespace."""
    for name in place:
        node = next((e for e in node if _tag(e) == name), None)
        if node is None:
            return None
    return node.text


def _tag(node: Any) -> str:
    return str(node.tag).rsplit("}", 1)[-1]


def _zyx(values: Sequence[float]) -> str:
    z, y, x = values
    return f"<x>{x}</x><y>{y}</y><z>{z}</z>"
