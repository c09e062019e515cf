"""Edits of semantic maps: variations that are valid by construction, with their nodules."""

from lungforge.ct.edits.apply import edit_map, edits_for
from lungforge.ct.edits.edited_map import EDITS, EditedMap, EditName
from lungforge.ct.edits.surroundings import surroundings

__all__ = ["EDITS", "EditName", "EditedMap", "edit_map", "edits_for", "surroundings"]
