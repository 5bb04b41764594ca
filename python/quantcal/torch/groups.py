"""Finds by module names which linear layers read the same tensor, and what writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from quantcal.torch.modules import modules_by_path, unwrap

# Names of norms and of the linear layers that read them, where nothing else does. Blocks with
# the norm after the residual sum (BERT) are not here, since the next sum reads the norm too.
_BLOCKS = (
    # LLaMA, Mistral, Qwen2, SmolLM2
    ("input_layernorm", r"self_attn\.[qkv]_proj"),
    ("post_attention_layernorm", r"mlp\.(?:gate|up)_proj"),
    # OPT
    ("self_attn_layer_norm", r"self_attn\.[qkv]_proj"),
    ("final_layer_norm", r"fc1"),
    # Falcon, BLOOM
    ("input_layernorm", r"self_attention\.query_key_value"),
    ("post_attention_layernorm", r"mlp\.dense_h_to_4h"),
    # ViT
    ("layernorm_before", r"attention\.attention\.(?:query|key|value)"),
    ("layernorm_after", r"intermediate\.dense"),
)
# silu(gate) * up is linear in up.
_PRODUCTS = (("mlp.up_proj", r"mlp\.down_proj"),)


@dataclass(frozen=True)
class Group:
    """Linear layers that read the same tensor, and the module that writes it.

    Parameters
    ----------
    source
        Path of a norm with one weight per channel, or of a linear layer. Only the readers may
        read its output. Operators between them must be linear in each channel, such as a
        product with another tensor.
    readers
        Paths of the linear layers.
    """

    source: str
    readers: tuple[str, ...]


def find_groups(model: Any, *, products: bool = False) -> list[Group]:
    """Return the groups that the names of a model's modules suggest.

    It knows blocks that normalize first: LLaMA, Mistral, Qwen2, OPT, BLOOM, ViT and others
    with the same names. Names are no proof, since a block with norms after its sums may use
    the same names. `smoothquant` verifies groups on a sample and refuses wrong ones. Without
    `groups=` it needs no names, and finds norms and their readers in the sample. It does not
    search for products there.

    Parameters
    ----------
    model
        A `torch.nn.Module`.
    products
        Return also pairs of linear layers with a product between them: `up_proj` and
        `down_proj` of a SwiGLU.
    """
    modules = modules_by_path(unwrap(model))
    found = []
    for ending, readers in (*_BLOCKS, *(_PRODUCTS if products else ())):
        for path in modules:
            block = path.removesuffix(ending)
            if block == path or (block and not block.endswith(".")):
                continue
            pattern = re.compile(re.escape(block) + readers)
            names = tuple(name for name in modules if pattern.fullmatch(name))
            if names:
                found.append(Group(path, names))
    return found
