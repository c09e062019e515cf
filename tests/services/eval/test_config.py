import pytest

from lungforge.errors import InputError
from services.eval.config import EvalConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthetic": ()}, "--synthetic is empty"),
        ({"synthetic": ("b", "b")}, "--synthetic names a value twice: b b; give each once"),
        ({"subsets": ()}, "--subsets is empty"),
        ({"weights": "x.pth"}, "for --extractor inception-v3"),
        ({"features": ""}, "--features is empty"),
        ({"second_extractor": ""}, "--second-extractor is empty"),
        ({"second_architecture": "resnet50"}, "--second-architecture is for --second-extractor"),
        ({"second_extractor": "x", "second_architecture": "vgg"}, "--second-architecture is 'vgg'; choose"),
        ({"seed": -1}, "--seed is -1"),
        ({"workers": 0}, "--workers is 0"),
        ({"gpus_per_worker": 2}, "--gpus-per-worker is 2"),
        ({"downstream": "cpu"}, "--downstream needs --train-subsets"),
        ({"train_subsets": (0, 1)}, "--train-subsets is for --downstream, which is none"),
        ({"tasks": ()}, "--tasks is empty"),
        ({"tasks": ("localisation", "localisation")}, "--tasks names a value twice"),
        ({"tasks": ("detection",)}, "--tasks is 'detection'; choose classification or localisation"),
        ({"extractor": "resnet"}, "--extractor is 'resnet'; choose efficientnet-lite0 or inception-v3"),
        ({"ratios": ()}, "--ratios is empty"),
        ({"ratios": (1.0, 1.0)}, "--ratios names a value twice"),
        ({"ratios": (1.0, 0.0)}, "--ratios is 1 0; give a number above 0"),
        ({"ratios": (float("nan"),)}, "--ratios is"),
        ({"seeds": 0}, "--seeds is 0; give at least 1"),
        ({"folds": 0}, "--folds is 0; give at least 1"),
        ({"gpus_per_network": -0.5}, "--gpus-per-network is -0.5"),
    ],
)
def test_a_wrong_value_is_named_with_a_remedy(changes, message):
    with pytest.raises(InputError, match=message):
        EvalConfig(**{"real": "a", "synthetic": ("b",), "out": "c", **changes})
