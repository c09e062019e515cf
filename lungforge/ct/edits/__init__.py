"""Edits of a semantic map: variations that are right by construction, with the nodules that they show."""

from lungforge.ct.edits.apply import edit_map, edits_for
from lungforge.ct.edits.edited_map import EDITS, EditedMap, EditName

__all__ = ["EDITS", "EditName", "EditedMap", "edit_map", "edits_for"]
