"""Rendering of slices of the chest model, with sharp edges; positions as in ``chest``."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.classes import BODY, LEFT_LUNG, RIGHT_LUNG, TRACHEA
from lungforge.ct.phantoms.chest import APEX, RIB_STEP, Chest
from lungforge.ct.phantoms.shapes import rounded

# Hounsfield units at 120 kV without contrast agent.
AIR, FAT, MUSCLE, BLOOD, LIVER, SKIN = -1000, -105, 52, 42, 58, 25
MARROW, CORTEX, DISC, CORD, CARTILAGE, LUMEN = 190, 620, 85, 32, 100, -975
TABLE_SHELL, TABLE_FOAM = -320, -920


def render_slice(
    chest: Chest, u: NDArray[np.float32], v: NDArray[np.float32], zeta: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Render one slice, with sharp edges and without noise, vessels and nodules.

    Args:
        chest: The patient.
        u: Column positions, shape [1, W], in mm.
        v: Row positions, shape [H, 1], in mm.
        zeta: zeta of the slice, in mm.

    Returns:
        Hounsfield units, float32 [H, W], and the classes, uint8 [H, W].
    """
    hu = np.full((v.size, u.size), AIR, np.float32)
    anatomy = np.zeros(hu.shape, np.uint8)
    canvas = _Canvas(hu, u, v)
    _render_table(canvas, chest)
    body = chest.body(u, v, zeta)
    cage = chest.cage(u, v, zeta)
    # Fat is thicker at the flanks and thin over sternum and scapulae.
    fat = (
        chest.fat * (0.55 + 0.45 * np.abs(u) / chest.half_width) * (1.1 - 0.4 * np.abs(v) / chest.half_depth)
    )
    np.copyto(hu, SKIN, where=body < 0)
    np.copyto(hu, FAT, where=body < -2)
    np.copyto(hu, MUSCLE, where=body < -2 - fat)
    # Thin layers of fat between muscles and over the ribs.
    layer = body + 2 + fat
    np.copyto(
        hu, FAT + 20, where=(np.abs(layer + 7 + 2 * np.sin(u / 17) * np.cos(v / 13)) < 0.9) & (cage > 9)
    )
    inside = cage < 0
    np.copyto(hu, FAT, where=inside)
    anatomy[body < 0] = BODY
    _render_ribs(canvas, chest, cage, zeta)
    _render_mediastinum(canvas, chest, zeta)
    left, right, outside = chest.lungs(u, v, zeta)
    np.copyto(hu, np.where(u > 0, BLOOD, LIVER), where=inside & (chest.diaphragm(u, v, zeta) > -3))
    _render_spine(canvas, chest, zeta)
    for surface, lung in ((left, LEFT_LUNG), (right, RIGHT_LUNG)):
        inner = rounded(surface, outside, 10) < 0
        # Blood pools at the back of a supine patient.
        np.copyto(hu, -872 + 0.45 * v, where=inner)
        fissure = np.abs(zeta - 128 - 1.15 * v + 0.12 * u) < 1.1
        np.copyto(hu, -730, where=inner & fissure)
        anatomy[inner] = lung
    for tube_u, tube_v, across, along in chest.airways(zeta):
        wall = canvas.ellipse(tube_u, tube_v, across + chest.wall, along + chest.wall, BLOOD)
        anatomy[wall.window][wall.inside] = BODY
    for tube_u, tube_v, across, along in chest.airways(zeta):
        lumen = canvas.ellipse(tube_u, tube_v, across, along, LUMEN)
        anatomy[lumen.window][lumen.inside] = TRACHEA
    return hu, anatomy


@dataclass(frozen=True)
class _Patch:
    window: tuple[slice, slice]
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class _Canvas:
    hu: NDArray[np.float32]
    u: NDArray[np.float32]
    v: NDArray[np.float32]

    def ellipse(
        self, u: float, v: float, across: float, along: float, hu: float, *, turn: float = 0
    ) -> _Patch:
        """Fill an ellipse, rotated by ``turn`` degrees from +u to +v; only its bounding box is computed."""
        reach_u, reach_v = (across, along) if not turn else (max(across, along),) * 2
        columns = slice(*np.searchsorted(self.u[0], (u - reach_u, u + reach_u)))
        rows = slice(*np.searchsorted(self.v[:, 0], (v - reach_v, v + reach_v)))
        x, y = self.u[:, columns] - u, self.v[rows] - v
        cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        inside = ((x * cosine + y * sine) / across) ** 2 + ((y * cosine - x * sine) / along) ** 2 < 1
        np.copyto(self.hu[rows, columns], hu, where=inside)
        return _Patch((rows, columns), inside)


def _render_table(canvas: _Canvas, chest: Chest) -> None:
    # A carbon shell around foam, with a curved top, under a mat of negligible density.
    top = canvas.v - (chest.half_depth + 9 - 0.0012 * canvas.u**2)
    wide = np.abs(canvas.u) < 0.95 * chest.half_width
    np.copyto(canvas.hu, TABLE_FOAM, where=(top > 0) & (top < 16) & wide)
    np.copyto(canvas.hu, TABLE_SHELL, where=((np.abs(top - 1) < 1.2) | (np.abs(top - 16) < 1.2)) & wide)


def _render_ribs(canvas: _Canvas, chest: Chest, cage: NDArray[np.float32], zeta: float) -> None:
    if zeta > 272:
        return
    # Ribs slope down towards the front, so that a slice cuts three or four of them on each side.
    height = zeta - chest.rib_phase - 0.62 * canvas.v
    off = (height + RIB_STEP / 2) % RIB_STEP - RIB_STEP / 2
    section = ((cage - 6) / 4.5) ** 2 + (off / 6.5) ** 2
    # In front they end as cartilage beside the sternum.
    front = (canvas.v < -0.55 * chest.cage_depth) & (np.abs(canvas.u) < 0.62 * chest.cage_width)
    np.copyto(canvas.hu, np.where(front, CARTILAGE, CORTEX), where=section < 1)
    np.copyto(canvas.hu, np.where(front, CARTILAGE, MARROW), where=section < 0.4)
    if zeta > 95:
        level = max(0.0, (zeta - 110) / (APEX - 110))
        front_v = (
            -chest.cage_depth * math.sqrt(max(0.05, 1 - level**2.8)) ** 0.85
            + 0.12 * chest.cage_depth * level**2
        )
        canvas.ellipse(0, front_v - 7, 21, 7.5, CORTEX - 220)
        canvas.ellipse(0, front_v - 7, 19, 5.5, MARROW - 60)
    if zeta > 140:
        reach = min(1.0, (zeta - 140) / 60)
        for side in (-1, 1):
            blade_u, blade_v = side * (chest.cage_width - 7), 0.64 * chest.cage_depth
            canvas.ellipse(blade_u, blade_v, 28 * reach + 4, 4.5, CORTEX - 150, turn=-side * 52)
            canvas.ellipse(blade_u, blade_v, 26 * reach + 2, 2.0, MARROW, turn=-side * 52)


def _render_spine(canvas: _Canvas, chest: Chest, zeta: float) -> None:
    v = chest.spine
    disc = (zeta + 0.5 * chest.rib_phase) % 26 < 5
    canvas.ellipse(0, v + 24, 19, 15, CORTEX - 150)
    for side in (-1, 1):
        if not disc:
            canvas.ellipse(side * 27, v + 24, 17, 5.5, CORTEX - 180, turn=side * 18)
            canvas.ellipse(side * 27, v + 24, 15, 3.5, MARROW, turn=side * 18)
    canvas.ellipse(0, v + 38, 4.5, 11, CORTEX - 120)
    canvas.ellipse(0, v + 38, 2.5, 9, MARROW)
    canvas.ellipse(0, v, 19.5, 16, DISC if disc else CORTEX - 130)
    canvas.ellipse(0, v, 17.5, 14, DISC if disc else MARROW)
    canvas.ellipse(0, v + 23, 11, 9, FAT + 60)
    canvas.ellipse(0, v + 23, 6.5, 5.5, CORD)


def _render_mediastinum(canvas: _Canvas, chest: Chest, zeta: float) -> None:
    np.copyto(canvas.hu, BLOOD, where=chest.heart_surface(canvas.u, canvas.v, zeta) < 0)
    aorta_u, aorta_v = chest.aorta
    if zeta < 205:
        canvas.ellipse(aorta_u, aorta_v, 12.5, 12.5, BLOOD)
    elif zeta < 224:
        # The aortic arch, from the front right to the back left.
        canvas.ellipse(9, 4, 14, 38, BLOOD, turn=-24)
    if 135 < zeta < 206:
        canvas.ellipse(-9, -26, 16, 16, BLOOD)
    if 150 < zeta < 182:
        canvas.ellipse(17, -16, 14, 20, BLOOD, turn=35)
    if 140 < zeta < 250:
        canvas.ellipse(-25, -12, 9, 8, BLOOD)
    if zeta >= 224:
        for u, v in ((-14, -12), (10, -10), (20, 6), (-22, 0)):
            canvas.ellipse(u, v, 6, 6, BLOOD)
    # The oesophagus lies behind the trachea.
    canvas.ellipse(4, chest.spine - 26, 8, 5.5, MUSCLE - 15)
    for hilum_u, hilum_v, hilum_zeta in chest.hila():
        reach = 1 - ((zeta - hilum_zeta) / 30) ** 2
        if reach > 0:
            canvas.ellipse(0.8 * hilum_u, hilum_v, 19 * math.sqrt(reach), 15 * math.sqrt(reach), BLOOD)
