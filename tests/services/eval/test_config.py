import pytest

from lungforge.errors import InputError
from services.eval.config import EvalConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthetic": ()}, "--synthetic is empty"),
        ({"synthetic": ("b", "b")}, "names a dataset twice"),
        ({"subsets": ()}, "--subsets is empty"),
        ({"weights": "x.pth"}, "for --extractor inception-v3"),
        ({"features": ""}, "--features is empty"),
        ({"seed": -1}, "--seed is -1"),
        ({"workers": 0}, "--workers is 0"),
        ({"gpus_per_worker": 2}, "--gpus-per-worker is 2"),
        ({"downstream": "cpu"}, "--downstream needs --train-subsets"),
        ({"train_subsets": (0, 1)}, "--train-subsets is for --downstream, which is none"),
        ({"tasks": ()}, "--tasks names none"),
        ({"ratios": (1.0, 0.0)}, r"--ratios is \(1.0, 0.0\); give different numbers above 0"),
        ({"ratios": (float("nan"),)}, "--ratios is"),
        ({"seeds": 0}, "--folds is 1 and --seeds 0"),
        ({"gpus_per_network": -0.5}, "--gpus-per-network is -0.5"),
    ],
)
def test_a_wrong_value_is_named_with_a_remedy(changes, message):
    with pytest.raises(InputError, match=message):
        EvalConfig(**{"real": "a", "synthetic": ("b",), "out": "c", **changes})
