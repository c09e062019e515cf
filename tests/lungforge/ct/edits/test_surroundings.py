"""What is sampled anew around an edit."""

import numpy as np

from lungforge.ct.edits import surroundings


def test_the_surroundings_of_an_edit() -> None:
    changed = np.zeros((21, 21), bool)
    changed[10, 10] = True
    rows, columns = np.nonzero(surroundings(changed, (1.0, 2.5)))
    # 5 mm: five rows, two columns.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 15, 8, 12)
    assert surroundings(changed, (1.0, 1.0)).sum() == 81  # lattice points within 5
    assert surroundings(changed, (9.0, 9.0)).sum() == 13  # at least 2 px
