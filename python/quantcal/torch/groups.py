"""Which linear layers read the same tensor, and what writes it, guessed from modules' names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from quantcal.torch.modules import paths, unwrap

# Where the input of these layers comes from a norm that nothing else reads: the norm's name,
# and its readers'. Blocks with the norm behind the sum (BERT) have none: the sum reads it too.
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
_PRODUCTS = (("mlp.up_proj", r"mlp\.down_proj"),)  # silu(gate) * up: linear in up


@dataclass(frozen=True)
class Group:
    """Linear layers that read the same tensor, and the module that writes it.

    Parameters
    ----------
    source
        Path of a norm with a weight for each channel, or of a linear layer. Nothing but the
        readers may read its output, and between them there may be only what is linear in
        each channel, such as a product with another tensor.
    readers
        Paths of the linear layers.
    """

    source: str
    readers: tuple[str, ...]


def groups(model: Any, *, products: bool = False) -> list[Group]:
    """Return the groups that the names of a model's modules suggest.

    Knows blocks that normalize first: LLaMA, Mistral, Qwen2, OPT, BLOOM, ViT and those that
    share their names. Names are no proof: a block with norms behind its sums may have the same.
    `smoothquant` verifies groups on a sample and refuses wrong ones. Without `groups=`
    it finds norms and their readers there and needs no names; products it does not look for.

    Parameters
    ----------
    model
        A `torch.nn.Module`.
    products
        Also pairs of linear layers with a product between: `up_proj` and `down_proj` of
        a SwiGLU.
    """
    modules = paths(unwrap(model))
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
