import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.errors import InputError
from lungforge.models import spade
from lungforge.models.spade import SemanticMap, SpadeModulation, find_neighbourhoods, one_hot, pointwise


def draw_map(kind: str, count: int = 2, size: int = 16, classes: int = 5) -> torch.Tensor:
    """Maps that the fast path could get wrong."""
    generator = torch.Generator().manual_seed(3)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    labels = {
        "chest": ((rows - size / 2) ** 2 + (columns - size / 2) ** 2 < size**2 / 6)
        .long()
        .expand(count, -1, -1),
        "constant": torch.full((count, size, size), classes - 1),
        "random": torch.randint(0, classes, (count, size, size), generator=generator),
        "frame": ((rows % (size - 1) == 0) | (columns % (size - 1) == 0)).long().expand(count, -1, -1) * 2,
        "stripes": (columns % classes).expand(count, -1, -1),
    }
    if kind == "null":
        return torch.zeros(count, classes, size, size)
    if kind == "half null":
        return torch.cat([one_hot(labels["chest"], classes)[:1], torch.zeros(count - 1, classes, size, size)])
    return one_hot(labels[kind], classes)


def plain_modulation(module: SpadeModulation, maps: torch.Tensor, size: int) -> torch.Tensor:
    hidden = module.mlp_shared(F.interpolate(maps, size=(size, size), mode="nearest"))
    return torch.cat([1 + module.mlp_gamma(hidden), module.mlp_beta(hidden)], dim=1)


@pytest.mark.parametrize("kind", ["chest", "constant", "random", "frame", "stripes", "null", "half null"])
@pytest.mark.parametrize("size", [16, 8, 2])
@pytest.mark.parametrize("dense_share", [-1.0, 2.0])
def test_both_paths_equal_plain_convolutions_in_value_and_gradient(monkeypatch, kind, size, dense_share):
    monkeypatch.setattr(spade, "DENSE_SHARE", dense_share)
    torch.manual_seed(0)
    maps = draw_map(kind)
    module = SpadeModulation(32, maps.shape[1]).double()
    maps = maps.double()
    upstream = torch.randn(2, 64, size, size, dtype=torch.float64)

    expected = plain_modulation(module, maps, size)
    expected_gradients = torch.autograd.grad((expected * upstream).sum(), list(module.parameters()))
    modulation = module.modulation(SemanticMap(maps), size)
    assert (modulation.places is None) == (dense_share < 0)
    whole = modulation.whole()
    actual = torch.cat([whole.scale, whole.shift], dim=1)
    gradients = torch.autograd.grad((actual * upstream).sum(), list(module.parameters()))

    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    labels=st.integers(1, 3).flatmap(
        lambda count: st.tuples(st.just(count), st.integers(1, 7), st.integers(1, 7), st.integers(1, 200))
    ),
    seed=st.integers(0, 2**31),
)
def test_neighbourhoods_tell_apart_exactly_the_neighbourhoods_that_differ(labels, seed):
    count, height, width, classes = labels
    ids = torch.randint(0, classes, (count, height, width), generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spade, "DENSE_SHARE", 2.0)
        actual = find_neighbourhoods(one_hot(ids, classes))
    # Outside counts as no class, and a neighbourhood also knows which of its inner pixels are outside.
    windows = F.pad(ids + 1, (2, 2, 2, 2)).unfold(1, 5, 1).unfold(2, 5, 1).reshape(-1, 25)
    distinct = len(torch.unique(windows, dim=0))
    assert len(actual.taps.members) == distinct
    pairs = torch.cat([actual.pixels.members, windows], dim=1)
    assert len(torch.unique(pairs, dim=0)) == distinct


@pytest.mark.parametrize("threads", [1, 2])
def test_a_pointwise_convolution_is_a_matrix_product_on_any_number_of_threads(threads):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in ((2, 3, 4, 5), (6, 3), (6,)))
    expected = torch.einsum("oi,nihw->nohw", weight.double(), x.double()) + bias.double()[:, None, None]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = pointwise(x.contiguous(memory_format=torch.channels_last), weight, bias)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


def test_border_is_zero_in_the_hidden_layer_and_not_the_bias():
    torch.manual_seed(0)
    module = SpadeModulation(32, 3)
    torch.nn.init.constant_(module.mlp_shared[0].bias, 1.0)
    maps = torch.zeros(1, 3, 8, 8)
    modulation = module.modulation(SemanticMap(maps), 8).whole()
    expected = plain_modulation(module, maps, 8)
    assert float((expected[..., 0, 0] - expected[..., 4, 4]).detach().abs().max()) > 0.1
    torch.testing.assert_close(
        torch.cat([modulation.scale, modulation.shift], 1), expected, rtol=0, atol=1e-5
    )
    # Nine kinds of place in a picture without a map: corners, edges, inside.
    assert len(module.modulation(SemanticMap(maps), 8).scale) == 9


def test_maps_that_are_no_ids_take_the_dense_path():
    module = SpadeModulation(32, 4)
    soft = torch.softmax(torch.randn(1, 4, 8, 8), dim=1)
    assert find_neighbourhoods(soft) is None
    whole = module.modulation(SemanticMap(soft), 8).whole()
    torch.testing.assert_close(torch.cat([whole.scale, whole.shift], 1), plain_modulation(module, soft, 8))


def test_maps_of_chests_have_few_neighbourhoods():
    actual = find_neighbourhoods(draw_map("chest", count=8, size=32))
    assert len(actual.taps.members) < 0.1 * actual.pixels.members.numel()


@pytest.mark.parametrize("wrong", [-1, 6, 255])
def test_an_id_that_is_no_class_is_refused(wrong):
    with pytest.raises(InputError, match=r"classes 0 to 5"):
        one_hot(torch.tensor([[[0, wrong]]]), 6)
