"""What ``import lungforge`` offers: slices for PyTorch, models, edits, volumes, evaluation of small sets.

Each module is imported when one of its names is first used, so that ``import lungforge`` stays quick.
"""
