"""The analytic chest model of phantoms: its surfaces and the positions of its parts.

Points are (u, v, zeta) in mm: u to the patient's left, v to the back, zeta to the head. zeta counts from
the bottom of a scan of ``CHEST_HEIGHT_MM``; a shorter scan holds the same chest, compressed along zeta.
A surface is a signed function: negative inside, and near the surface about the distance in mm.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lungforge.ct.phantoms.shapes import ellipse, rounded, superellipse

CHEST_HEIGHT_MM = 300.0
"""Length of the whole chest, from the liver to the neck."""

APEX = 284.0
"""zeta of the apices of the lungs."""

RIB_STEP = 27.0
"""Distance of neighbouring ribs along zeta."""

_CARINA = 188.0
# Exponents of the superellipses of body and rib cage: real ones are slightly square.
_BODY_POWER, _CAGE_POWER = 2.5, 2.2


@dataclass(frozen=True)
class Chest:
    """The chest of one patient. Lengths in mm."""

    cage_width: float
    """Half the inner width of the rib cage."""
    cage_depth: float
    """Half the inner depth of the rib cage."""
    fat: float
    """Thickness of the subcutaneous fat."""
    heart: float
    """Relative size of the heart; 1 is the mean."""
    trachea_radius: float
    rib_phase: float
    """zeta of the centre of the lowest rib."""
    wall: float
    """Thickness of the airway walls: at least a pixel, or slices lose them."""

    @classmethod
    def sample(cls, random: np.random.Generator, *, pixel_mm: float) -> "Chest":
        """Sample a patient; ``pixel_mm`` is the in-plane spacing."""
        return cls(
            cage_width=random.uniform(118, 138),
            cage_depth=random.uniform(80, 94),
            fat=random.uniform(8, 22),
            heart=random.uniform(0.92, 1.1),
            trachea_radius=random.uniform(8, 10),
            rib_phase=random.uniform(0, RIB_STEP),
            wall=max(2.0, 1.5 * pixel_mm),
        )

    @property
    def half_width(self) -> float:
        """Half the width of the body."""
        return self.cage_width + 24 + self.fat

    @property
    def half_depth(self) -> float:
        """Half the depth of the body."""
        return self.cage_depth + 31 + 0.5 * self.fat

    @property
    def spine(self) -> float:
        """V of the centre of the vertebral bodies."""
        return self.cage_depth - 20

    def body(self, u: ArrayLike, v: ArrayLike, zeta: float) -> NDArray[np.float32]:
        """Distance to the skin."""
        # The body narrows towards the neck.
        neck = max(0.0, (zeta - 190) / 110) ** 2
        return superellipse(
            u, v, self.half_width * (1 - 0.1 * neck), self.half_depth * (1 - 0.12 * neck), _BODY_POWER
        )

    def cage(self, u: ArrayLike, v: ArrayLike, zeta: float) -> NDArray[np.float32]:
        """Distance to the inner wall of the rib cage, which closes in a dome above the apices."""
        height = max(0.0, (zeta - 110) / (APEX - 110))
        # The cage vanishes above the apices.
        narrowing = math.sqrt(max(1e-4, 1 - height**2.8)) * (1 - 0.05 * max(0.0, (90 - zeta) / 90) ** 2)
        width, depth = self.cage_width * narrowing, self.cage_depth * narrowing**0.85
        shift = 0.12 * self.cage_depth * height**2
        return superellipse(u, np.subtract(v, shift), width, depth, _CAGE_POWER)

    def lungs(
        self, u: ArrayLike, v: ArrayLike, zeta: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Distances that bound the lungs: left and right of the mediastinum, and chest wall with diaphragm.

        Returns:
            (left, right, outside): the left lung is where the first and the last are negative, the right lung
            where the second and the last are.
        """
        u, v = np.asarray(u, np.float32), np.asarray(v, np.float32)
        apical = max(0.0, (zeta - 215) / 60)
        # The mediastinum: narrow in front, wide at the great vessels, as wide as the vertebrae at the back.
        middle = 22 * np.exp(-(((v - 5) / 40) ** 2))
        behind = 17 / (1 + np.exp(-(v - self.spine + 22) / 5))
        half = 9 + np.maximum(middle, behind) + 9 * apical
        left, right = half - u, half + u
        heart = self.heart_surface(u, v, zeta)
        aorta = 16 - np.hypot(u - self.aorta[0], v - self.aorta[1]) if zeta < 215 else np.float32(-1e3)
        left = rounded(rounded(left, 4 - heart, 12), aorta, 4)
        right = rounded(right, 4 - heart, 12)
        return left, right, rounded(self.cage(u, v, zeta) + 1.5, self.diaphragm(u, v, zeta), 8)

    def diaphragm(self, u: ArrayLike, v: ArrayLike, zeta: float) -> NDArray[np.float32]:
        """Distance to the diaphragm, a dome on each side, higher on the right; negative above it."""
        u, v = np.asarray(u, np.float32), np.asarray(v, np.float32)
        across = ((np.abs(u) - 0.48 * self.cage_width) / (0.62 * self.cage_width)) ** 2
        along = ((v + 8) / self.cage_depth) ** 2
        top = np.where(u > 0, 74, 88)
        return (top - 62 * np.minimum(across + along, 1.4) - zeta).astype(np.float32)

    def heart_surface(self, u: ArrayLike, v: ArrayLike, zeta: float) -> NDArray[np.float32]:
        """Distance to the heart: an ellipsoid whose long axis points forward and to the left."""
        u, v = np.asarray(u, np.float32) - 20, np.asarray(v, np.float32) + 28
        cosine, sine = math.cos(math.radians(38)), math.sin(math.radians(38))
        long, short = u * cosine - v * sine, u * sine + v * cosine
        along = (zeta - 108) / (58 * self.heart)
        return ellipse(long, short, 62 * self.heart, 47 * self.heart, along)

    @property
    def aorta(self) -> tuple[float, float]:
        """Centre (u, v) of the descending aorta."""
        return 23.0, self.spine - 16

    def airways(self, zeta: float) -> list[tuple[float, float, float, float]]:
        """Cross-sections of trachea or main bronchi: (u, v, radius along u, radius along v) each."""
        radius = self.trachea_radius
        if zeta >= _CARINA:
            return [(-1.0, 4 - (zeta - _CARINA) * 0.08, radius, 0.92 * radius)]
        below = _CARINA - zeta
        tubes = []
        # The right main bronchus is short and steep, the left one long and flat.
        if below <= 30:
            tubes.append((-1 - 0.3 * radius - 0.62 * below, 4 + 0.1 * below, 0.85 * radius, 0.7 * radius))
        if below <= 34:
            tubes.append((-1 + 0.3 * radius + 0.72 * below, 4 + 0.2 * below, 0.85 * radius, 0.62 * radius))
        return tubes

    def hila(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Points (u, v, zeta) where the vessels enter the left and the right lung."""
        return (33.0, 10.0, _CARINA - 26), (-30.0, 8.0, _CARINA - 24)
