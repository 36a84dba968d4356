import numpy as np
import pytest
import torch

from classifier.attention import attention_maps, patch_size
from classifier.explain import explain_images
from classifier.explain_pictures import patch_panel
from extract.errors import SettingsError
from tests.classifier.served import toy_table, untrained


def attention_by_hand(classifier, images):
    """Softmax of queries and keys in each block, from the output of its linear layer: [(N, heads, T, T)]."""
    model, found = classifier.model, []

    def note(block):
        def hook(module, inputs, output):
            n, num_tokens, _ = output.shape
            query, key, _ = output.reshape(n, num_tokens, 3, block.attn.num_heads, -1).permute(2, 0, 3, 1, 4)
            scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
            found.append(scores.softmax(dim=-1))

        return block.attn.qkv.register_forward_hook(hook)

    handles = [note(block) for block in model.blocks]
    with torch.no_grad():
        model(classifier.preprocessing.to_batch(images.gather(np.arange(len(images)))))
    for handle in handles:
        handle.remove()
    return found


def test_heads_and_rollout_are_those_of_the_queries_and_keys():
    images = toy_table(3, size=64)
    classifier = untrained(images, "vit_tiny_patch16_224")
    attention = attention_maps(classifier, images, batch_size=2)
    blocks = attention_by_hand(classifier, images)
    heads = blocks[-1][:, :, 0, 1:].unflatten(2, (4, 4))
    np.testing.assert_allclose(attention.heads, heads.numpy(), atol=1e-5)
    rolled = torch.eye(17)
    for weights in blocks:
        rolled = (0.5 * weights.mean(dim=1) + 0.5 * torch.eye(17)) @ rolled
    np.testing.assert_allclose(attention.rollout, rolled[:, 0, 1:].unflatten(1, (4, 4)).numpy(), atol=1e-5)
    assert (rolled.sum(dim=2) - 1).abs().max() < 1e-5


def test_a_map_of_attention_is_the_rollout_at_the_input():
    images = toy_table(3, size=64)
    maps = explain_images(untrained(images, "vit_tiny_patch16_224"), images, method="attention")
    assert maps.shape == (3, 64, 64) and maps.max() == 1 and maps.min() >= 0


@pytest.mark.parametrize("method", ["attention", "patches"])
def test_networks_without_patches_are_refused(method):
    images = toy_table()
    with pytest.raises(SettingsError, match="vision transformers"):
        explain_images(untrained(images), images, method=method)


def test_the_patch_figure_shows_each_patch_once():
    classifier = untrained(toy_table(3, size=64), "vit_tiny_patch16_224")
    assert patch_size(classifier.model) == (16, 16)
    image = np.random.default_rng(0).integers(30, 256, (1, 64, 64)).astype(np.uint8)
    panel = patch_panel(image, (16, 16))
    assert panel.title == "4x4 patches of 16x16 pixels"
    factor, line = 4, 8  # 64 pixels are enlarged to 256; an eighth of a patch lies between two
    second = panel.pixels[:64, 64 + line : 128 + line, 0]
    np.testing.assert_array_equal(second[::factor, ::factor], image[0, :16, 16:32])
    assert panel.pixels.shape == (4 * 64 + 3 * line, 4 * 64 + 3 * line, 3)
