"""The kinds of transformer layers, found by the usual names of their modules."""

from __future__ import annotations

import functools
import re

# Case is ignored. `_` divides as `.` and `/` do, for names that a tracer has flattened:
# model_layers_0_self_attn_q_proj.
_START = r"(?<![a-z0-9])"
_END = r"(?![a-z0-9]|_[a-z])"  # fc1, fc1_2 and fc1/MatMul_output_0, but not fc1_drop
_DOT = r"[./_]"
_ATTENTION = rf"att(?:n|ention){_DOT}"
_FFN = rf"(?:ffn|mlp|feed_forward){_DOT}"
_EXPERT = rf"(?:feed_forward|experts{_DOT}\d+){_DOT}"  # LLaMA as published, Mixtral


def _any(*whole: str, ending: tuple[str, ...] = ()) -> re.Pattern[str]:
    """Match any of these words, or of those that other letters may precede."""
    words = f"{_START}(?:{'|'.join(whole)})"
    return re.compile(f"(?:{'|'.join([words, *ending])}){_END}", re.IGNORECASE)


# The first kind that is found counts: "attention.output.dense" ends like an FFN's
# "output.dense", and "lm_head.dense" belongs to the head.
_LAYERS = {
    # What it writes, not what it reads: the scores before it have no known range.
    "softmax": re.compile(
        r"(?<![a-z])softmax(?:_\d+)?(?:_output_\d+|:output)$", re.IGNORECASE
    ),
    "lm_head": _any(
        r"lm_head|embed_out",
        rf"cls{_DOT}predictions",
        r"vocab_(?:transform|projector)",  # DistilBERT
        ending=(rf"predictions{_DOT}(?:transform|dense|decoder)",),
    ),
    "embedding": _any(
        r"embed_(?:tokens|positions|in)|wte|wpe|tok_embeddings",
        r"(?:word|position|token_type)_embeddings?",
        r"(?<![a-z0-9./_])/?(?:model[./])?shared(?=$|[./]gather)",  # T5, BART
        # The module itself, not one that holds others, such as a normalization.
        rf"embeddings?(?={_DOT}\d+$|[./]\w+_output_\d+$|$)",
    ),
    "attention_qkv": _any(
        r"(?:[qkv]|kv|qkv)(?:_[ab])?_proj(?:_with_mqa)?|query_key_value",
        ending=(
            rf"{_ATTENTION}(?:(?:self|attention){_DOT})?(?:query|key|value)(?:_proj)?",
            rf"{_ATTENTION}(?:w?[qkv]|w?qkv|[qkv]_lin|[cq]_attn|in_proj)",
        ),
    ),
    "attention_out": _any(
        r"o_proj",
        ending=(
            rf"{_ATTENTION}(?:attention{_DOT})?(?:out_proj|output{_DOT}dense)",
            rf"{_ATTENTION}(?:dense|c_proj|proj|out_lin|out|w?o)",
        ),
    ),
    "ffn_up": _any(
        r"gate_proj|up_proj|gate_up_proj|c_fc|fc1|fc_in|dense_h_to_4h",
        rf"intermediate{_DOT}dense",
        rf"DenseReluDense{_DOT}wi(?:_\d)?",
        rf"{_EXPERT}w[13]|mlp{_DOT}w[12]",
        rf"{_FFN}(?:up|lin1)|ffn{_DOT}gate",  # an mlp.gate is a router of experts
    ),
    "ffn_down": _any(
        r"down_proj|fc2|fc_out|dense_4h_to_h",
        rf"output{_DOT}dense",
        rf"DenseReluDense{_DOT}wo",
        rf"{_EXPERT}w2",
        rf"{_FFN}(?:down|c_proj|lin2)",
    ),
}
# Normalizations stand inside or beside these layers and belong to none.
_NORM = re.compile(r"(?:norm(?:alization)?|(?<![a-z])ln)\d*(?![a-z0-9])", re.IGNORECASE)

KINDS = tuple(_LAYERS)
"""The kinds that `layer_kind` knows."""


@functools.lru_cache(maxsize=1024)  # each rule of a policy asks again
def layer_kind(name: str) -> str | None:
    """Return the kind of transformer layer that a tensor's name belongs to.

    Module names of these types are known, alone or inside an ONNX tensor's name:

    * LLaMA, Mistral, Mixtral, Qwen, Gemma, Phi;
    * GPT-2, GPT-J, GPT-NeoX, OPT, Falcon, BLOOM, MPT;
    * BERT, RoBERTa, DistilBERT, ViT;
    * T5.

    Only the name counts: the input of an ONNX layer has the name of the layer that wrote it.

    Parameters
    ----------
    name
        The name of a module or a tensor.

    Returns
    -------
    One of `KINDS`. None for normalizations, scores before their softmax, residual sums and
    other tensors.

    Examples
    --------
    >>> from quantcal.strategies.layers import layer_kind
    >>> layer_kind("bert.encoder.layer.3.attention.output.dense")
    'attention_out'
    >>> layer_kind("bert.encoder.layer.3.output.dense")
    'ffn_down'
    >>> layer_kind("/model/layers.0/self_attn/q_proj/MatMul_output_0")
    'attention_qkv'
    """
    for kind, pattern in _LAYERS.items():
        found = pattern.search(name)
        if found:
            return None if _NORM.search(name, found.end()) else kind
    return None
