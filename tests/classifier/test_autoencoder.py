import pytest
import torch

from classifier.autoencoder import Autoencoder, Encoder, code_numbers, side_chain
from extract.errors import SettingsError


def small_autoencoder(**changes) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(1, **{"code_width": 2, "widths": (4, 6, 8), **changes}).eval()


def test_the_decoder_sees_the_bottleneck_alone():
    model = small_autoencoder()
    first, second = torch.randn(2, 3, 1, 16, 16)
    assert not torch.allclose(model(first), model(second))
    code = model.encode(first)
    model.bottleneck.register_forward_hook(lambda module, given, made: code)
    assert torch.equal(model(first), model(second))  # whatever the picture, the code decides


def test_no_more_numbers_pass_than_the_code_has():
    model = small_autoencoder().double()
    picture = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(lambda x: model(x).flatten(), picture)
    rank = torch.linalg.matrix_rank(slopes.reshape(256, 256), rtol=1e-10)
    assert code_numbers((16, 16), 2, 3) == 8  # 2x2 positions, 2 channels
    assert 2 <= int(rank) <= 8


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (9, 8)])
def test_a_picture_comes_back_in_its_size(size):
    model = small_autoencoder()
    assert model(torch.randn(2, 1, *size)).shape == (2, 1, *size)
    assert model.encode(torch.randn(2, 1, *size)).shape[2:] == side_chain(size, 3)[-1]


def test_a_bottleneck_that_could_copy_is_refused():
    with pytest.raises(SettingsError, match=r"at most 1/4 of the picture's numbers.* 16 at most, got 17"):
        small_autoencoder(code_width=17)


def test_each_stage_of_the_encoder_halves_the_side():
    features = Encoder(1, (4, 6, 8))(torch.randn(2, 1, 16, 24))
    assert [tuple(feature.shape[1:]) for feature in features] == [(4, 8, 12), (6, 4, 6), (8, 2, 3)]
