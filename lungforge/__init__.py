"""LungForge: synthetic chest CT slices from semantic maps, and an honest measure of their worth."""

__version__ = "0.1.0"
