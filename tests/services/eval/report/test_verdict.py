import pytest

from services.eval.report.verdict import verdict_of


def numbers(*, synthetic, real=10.0, spread=1.0, near_duplicates=0, name="one"):
    floor = {"images": 30, "real_mean": real, "real_spread": spread}
    floor |= {"synthetic_mean": synthetic, "synthetic_spread": 1.0, "repeats": 10}
    twins = {"near_duplicates": near_duplicates, "checked": 40, "highest_correlation": 0.2}
    memorisation = {"why_not": None, "ratio": 0.97, "interval_95_percent": [0.9, 1.05]}
    memorisation |= {"nearest_is_own_source": 2, "synthetic": {"images": 40}}
    return {"name": name, "frechet": {"at_equal_n": floor}, "twins": twins, "memorisation": memorisation}


@pytest.mark.parametrize(
    ("synthetic", "words"), [(25.0, "2.5 times as far"), (11.9, "as near to real"), (9.0, "as near to real")]
)
def test_verdict_judges_the_distance_by_the_floor(synthetic, words):
    assert words in verdict_of([numbers(synthetic=synthetic)])[0]


def test_verdict_begins_with_near_copies_and_gives_no_number_on_them():
    sentences = verdict_of([numbers(synthetic=25.0), numbers(synthetic=3.0, near_duplicates=4, name="two")])
    assert sentences[0].startswith("4 of 40 slices of “two” are near-duplicates")
    assert len(sentences) == 4
    assert not any("two" in sentence for sentence in sentences[1:])


def test_what_it_does_for_the_tasks_comes_first_but_for_near_copies():
    sets = [numbers(synthetic=25.0), numbers(synthetic=3.0, near_duplicates=4, name="two")]
    sentences = verdict_of(sets, ["It helps.", "It harms."])
    assert sentences[1:3] == ["It helps.", "It harms."]
    assert "near-duplicates" in sentences[0]
    assert [sentences[0], *sentences[3:]] == verdict_of(sets)


def test_verdict_without_a_floor_judges_nothing():
    alone = numbers(synthetic=1.0)
    alone["frechet"]["at_equal_n"] = None
    assert "cannot be judged" in verdict_of([alone])[0]
