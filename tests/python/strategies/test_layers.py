"""The kinds of layers, found by the names in published models."""

from __future__ import annotations

import pytest

import quantcal as qc
from quantcal.strategies.layers import KINDS, layer_kind

# Module names as `named_modules` of the models' published PyTorch code gives them; "{}" is
# the number of the layer. What is not under a kind must be under None: every name has a place.
Family = dict[str | None, list[str]]

LLAMA: Family = {  # also Mistral, Qwen2, Gemma, SmolLM2
    "embedding": ["model.embed_tokens"],
    "attention_qkv": [
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.self_attn.k_proj",
        "model.layers.{}.self_attn.v_proj",
    ],
    "attention_out": ["model.layers.{}.self_attn.o_proj"],
    "ffn_up": ["model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"],
    "ffn_down": ["model.layers.{}.mlp.down_proj"],
    "lm_head": ["lm_head"],
    None: [
        "model",
        "model.layers",
        "model.layers.{}",
        "model.layers.{}.self_attn",
        "model.layers.{}.self_attn.rotary_emb",
        "model.layers.{}.self_attn.q_norm",  # Qwen3, Gemma 3
        "model.layers.{}.self_attn.k_norm",
        "model.layers.{}.mlp",
        "model.layers.{}.mlp.act_fn",
        "model.layers.{}.input_layernorm",
        "model.layers.{}.post_attention_layernorm",
        "model.layers.{}.pre_feedforward_layernorm",  # Gemma 2
        "model.norm",
        "model.rotary_emb",
    ],
}
GPT2: Family = {
    "embedding": ["transformer.wte", "transformer.wpe"],
    "attention_qkv": ["transformer.h.{}.attn.c_attn"],
    "attention_out": ["transformer.h.{}.attn.c_proj"],
    "ffn_up": ["transformer.h.{}.mlp.c_fc"],
    "ffn_down": ["transformer.h.{}.mlp.c_proj"],
    "lm_head": ["lm_head"],
    None: [
        "transformer",
        "transformer.drop",
        "transformer.h",
        "transformer.h.{}",
        "transformer.h.{}.ln_1",
        "transformer.h.{}.attn",
        "transformer.h.{}.attn.attn_dropout",
        "transformer.h.{}.attn.resid_dropout",
        "transformer.h.{}.ln_2",
        "transformer.h.{}.mlp",
        "transformer.h.{}.mlp.act",
        "transformer.h.{}.mlp.dropout",
        "transformer.ln_f",
    ],
}
BERT: Family = {  # also RoBERTa, ELECTRA; ViT in the layers
    "embedding": [
        "bert.embeddings",
        "bert.embeddings.word_embeddings",
        "bert.embeddings.position_embeddings",
        "bert.embeddings.token_type_embeddings",
    ],
    "attention_qkv": [
        "bert.encoder.layer.{}.attention.self.query",
        "bert.encoder.layer.{}.attention.self.key",
        "bert.encoder.layer.{}.attention.self.value",
    ],
    "attention_out": ["bert.encoder.layer.{}.attention.output.dense"],
    "ffn_up": ["bert.encoder.layer.{}.intermediate.dense"],
    "ffn_down": ["bert.encoder.layer.{}.output.dense"],
    "lm_head": [
        "cls.predictions",
        "cls.predictions.transform",
        "cls.predictions.transform.dense",
        "cls.predictions.transform.transform_act_fn",
        "cls.predictions.decoder",
    ],
    None: [
        "bert",
        "bert.embeddings.LayerNorm",
        "bert.embeddings.dropout",
        "bert.encoder",
        "bert.encoder.layer",
        "bert.encoder.layer.{}",
        "bert.encoder.layer.{}.attention",
        "bert.encoder.layer.{}.attention.self",
        "bert.encoder.layer.{}.attention.self.dropout",
        "bert.encoder.layer.{}.attention.output",
        "bert.encoder.layer.{}.attention.output.LayerNorm",
        "bert.encoder.layer.{}.attention.output.dropout",
        "bert.encoder.layer.{}.intermediate",
        "bert.encoder.layer.{}.intermediate.intermediate_act_fn",
        "bert.encoder.layer.{}.output",
        "bert.encoder.layer.{}.output.LayerNorm",
        "bert.encoder.layer.{}.output.dropout",
        "bert.pooler",
        "bert.pooler.dense",
        "bert.pooler.activation",
        "cls",
        "cls.predictions.transform.LayerNorm",
        "classifier",
    ],
}
GPT_NEOX: Family = {  # Pythia
    "embedding": ["gpt_neox.embed_in"],
    "attention_qkv": ["gpt_neox.layers.{}.attention.query_key_value"],
    "attention_out": ["gpt_neox.layers.{}.attention.dense"],
    "ffn_up": ["gpt_neox.layers.{}.mlp.dense_h_to_4h"],
    "ffn_down": ["gpt_neox.layers.{}.mlp.dense_4h_to_h"],
    "lm_head": ["embed_out"],
    None: [
        "gpt_neox.emb_dropout",
        "gpt_neox.layers.{}.attention",
        "gpt_neox.layers.{}.attention.rotary_emb",
        "gpt_neox.layers.{}.post_attention_layernorm",
        "gpt_neox.layers.{}.post_attention_dropout",
        "gpt_neox.final_layer_norm",
    ],
}
OPT: Family = {
    "embedding": ["model.decoder.embed_tokens", "model.decoder.embed_positions"],
    "attention_qkv": [
        "model.decoder.layers.{}.self_attn.k_proj",
        "model.decoder.layers.{}.self_attn.v_proj",
        "model.decoder.layers.{}.self_attn.q_proj",
    ],
    "attention_out": ["model.decoder.layers.{}.self_attn.out_proj"],
    "ffn_up": ["model.decoder.layers.{}.fc1"],
    "ffn_down": ["model.decoder.layers.{}.fc2"],
    "lm_head": ["lm_head"],
    None: [
        "model.decoder.layers.{}.activation_fn",
        "model.decoder.layers.{}.self_attn_layer_norm",
        "model.decoder.layers.{}.final_layer_norm",
        "model.decoder.project_in",
    ],
}
FALCON: Family = {  # and BLOOM
    "embedding": ["transformer.word_embeddings"],
    "attention_qkv": ["transformer.h.{}.self_attention.query_key_value"],
    "attention_out": ["transformer.h.{}.self_attention.dense"],
    "ffn_up": ["transformer.h.{}.mlp.dense_h_to_4h"],
    "ffn_down": ["transformer.h.{}.mlp.dense_4h_to_h"],
    "lm_head": ["lm_head"],
    None: [
        "transformer.word_embeddings_layernorm",
        "transformer.h.{}.self_attention.attention_dropout",
        "transformer.h.{}.ln_attn",
        "transformer.h.{}.ln_mlp",
        "transformer.ln_f",
    ],
}
PHI: Family = {  # 1 and 2; then 3
    "embedding": ["model.embed_tokens"],
    "attention_qkv": [
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.self_attn.qkv_proj",
    ],
    "attention_out": [
        "model.layers.{}.self_attn.dense",
        "model.layers.{}.self_attn.o_proj",
    ],
    "ffn_up": ["model.layers.{}.mlp.fc1", "model.layers.{}.mlp.gate_up_proj"],
    "ffn_down": ["model.layers.{}.mlp.fc2", "model.layers.{}.mlp.down_proj"],
    "lm_head": ["lm_head"],
    None: ["model.layers.{}.resid_dropout", "model.final_layernorm"],
}
MIXTURES: Family = {  # Mixtral; Qwen2-MoE; DeepSeek
    "attention_qkv": [
        "model.layers.{}.self_attn.q_a_proj",
        "model.layers.{}.self_attn.kv_a_proj_with_mqa",
        "model.layers.{}.self_attn.kv_b_proj",
    ],
    "ffn_up": [
        "model.layers.{}.block_sparse_moe.experts.7.w1",
        "model.layers.{}.block_sparse_moe.experts.7.w3",
        "model.layers.{}.mlp.experts.7.gate_proj",
        "model.layers.{}.mlp.shared_expert.up_proj",
    ],
    "ffn_down": [
        "model.layers.{}.block_sparse_moe.experts.7.w2",
        "model.layers.{}.mlp.experts.7.down_proj",
    ],
    None: [
        "model.layers.{}.block_sparse_moe.gate",
        "model.layers.{}.mlp.gate",
        "model.layers.{}.mlp.shared_expert_gate",
        "model.layers.{}.self_attn.q_a_layernorm",
    ],
}
T5: Family = {
    "embedding": ["shared", "encoder.embed_tokens", "decoder.embed_tokens"],
    "attention_qkv": [
        "encoder.block.{}.layer.0.SelfAttention.q",
        "encoder.block.{}.layer.0.SelfAttention.k",
        "decoder.block.{}.layer.1.EncDecAttention.v",
    ],
    "attention_out": [
        "encoder.block.{}.layer.0.SelfAttention.o",
        "decoder.block.{}.layer.1.EncDecAttention.o",
    ],
    "ffn_up": [
        "encoder.block.{}.layer.1.DenseReluDense.wi",
        "encoder.block.{}.layer.1.DenseReluDense.wi_0",
        "encoder.block.{}.layer.1.DenseReluDense.wi_1",
    ],
    "ffn_down": ["encoder.block.{}.layer.1.DenseReluDense.wo"],
    "lm_head": ["lm_head"],
    None: [
        "encoder.block.{}.layer.0.SelfAttention",
        "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias",
        "encoder.block.{}.layer.0.layer_norm",
        "encoder.block.{}.layer.1.DenseReluDense.act",
        "encoder.final_layer_norm",
    ],
}
OTHERS: Family = {  # LLaMA as published, Qwen 1, MPT, GPT-J, GPT-Neo, DistilBERT, BART, timm
    "embedding": ["tok_embeddings", "model.shared", "distilbert.embeddings"],
    "attention_qkv": [
        "layers.{}.attention.wq",
        "layers.{}.attention.wk",
        "transformer.h.{}.attn.c_attn",
        "transformer.blocks.{}.attn.Wqkv",
        "transformer.h.{}.attn.attention.q_proj",
        "distilbert.transformer.layer.{}.attention.q_lin",
        "model.decoder.layers.{}.encoder_attn.v_proj",
        "vit.encoder.layer.{}.attention.attention.query",
        "deberta.encoder.layer.{}.attention.self.key_proj",
        "blocks.{}.attn.qkv",
        "layer{}.attention_qkv",
    ],
    "attention_out": [
        "layers.{}.attention.wo",
        "transformer.h.{}.attn.c_proj",
        "transformer.blocks.{}.attn.out_proj",
        "transformer.h.{}.attn.attention.out_proj",
        "distilbert.transformer.layer.{}.attention.out_lin",
        "model.decoder.layers.{}.encoder_attn.out_proj",
        "vit.encoder.layer.{}.attention.output.dense",
        "blocks.{}.attn.proj",
        "layer{}.attention_out",
    ],
    "ffn_up": [
        "layers.{}.feed_forward.w1",
        "layers.{}.feed_forward.w3",
        "transformer.h.{}.mlp.w1",
        "transformer.h.{}.mlp.w2",
        "transformer.blocks.{}.ffn.up_proj",
        "transformer.h.{}.mlp.fc_in",
        "distilbert.transformer.layer.{}.ffn.lin1",
        "decoder.{}.ffn.up",
        "layer{}.ffn_up",
    ],
    "ffn_down": [
        "layers.{}.feed_forward.w2",
        "transformer.h.{}.mlp.c_proj",
        "transformer.blocks.{}.ffn.down_proj",
        "transformer.h.{}.mlp.fc_out",
        "distilbert.transformer.layer.{}.ffn.lin2",
        "decoder.{}.ffn.down",
        "layer{}.ffn_down",
    ],
    "lm_head": [
        "vocab_transform",
        "vocab_projector",
        "lm_head.dense",
        "lm_head.decoder",
        "predictions.decoder",
        "generator_predictions.dense",
    ],
    None: [
        "vocab_layer_norm",
        "lm_head.layer_norm",
        "transformer.blocks.{}.attn.q_ln",
        "blocks.{}.attn.proj_drop",
        "features.{}.conv",
        "conv1",
        "predictions",
        "output_0",
        "self.value",
        "dense",
        "output",
        "",
    ],
}
FAMILIES = {
    "llama": LLAMA,
    "gpt2": GPT2,
    "bert": BERT,
    "gpt_neox": GPT_NEOX,
    "opt": OPT,
    "falcon": FALCON,
    "phi": PHI,
    "mixtures": MIXTURES,
    "t5": T5,
    "others": OTHERS,
}


def expected(family: Family, layers: int = 12) -> dict[str, str | None]:
    return {
        name.format(layer): kind
        for kind, names in family.items()
        for name in names
        for layer in range(layers if "{}" in name else 1)
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_has_its_kind(family: str) -> None:
    want = expected(FAMILIES[family])
    assert {name: layer_kind(name) for name in want} == want


@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_tensors_have_the_kind_of_their_module(family: str) -> None:
    for name, kind in expected(FAMILIES[family], 2).items():
        operator = "Gather" if kind == "embedding" else "MatMul"
        path = "/" + name.replace(".", "/")
        path = path.replace("layers/", "layers.").replace("/h/", "/h.")
        for suffix in (f"/{operator}_output_0", f"/{operator}_3_output_0"):
            assert layer_kind(path + suffix) == kind, path + suffix


@pytest.mark.parametrize(
    "name",
    [
        "/bert/encoder/layer.0/attention/self/MatMul_output_0",  # scores
        "/bert/encoder/layer.0/attention/output/Add_output_0",  # residual sum
        "/bert/encoder/layer.0/attention/output/LayerNorm/LayerNormalization_output_0",
        "/bert/encoder/layer.0/output/Add_output_0",
        "/bert/embeddings/LayerNorm/Add_1_output_0",
        "/model/layers.0/self_attn/LogSoftmax_output_0",
        "model.layers.0.self_attn.softmax",  # what it reads
        "/model/layers.0/input_layernorm/Mul_1_output_0",
        "/model/layers.0/mlp/Mul_output_0",  # what down_proj reads
        "past_key_values.0.key",
        "logits",
    ],
)
def test_what_is_between_the_layers_is_none_of_them(name: str) -> None:
    assert layer_kind(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "/bert/encoder/layer.0/attention/self/Softmax_output_0",
        "/model/layers.0/self_attn/Softmax_output_0",
        "/model/layers.11/self_attn/Softmax_1_output_0",
        "blocks.3.attn.softmax:output",
        "transformer.h.0.attn.Softmax:output",
    ],
)
def test_a_softmax_has_the_range_of_probabilities(name: str) -> None:
    assert layer_kind(name) == "softmax"
    rule = qc.Policy.named("llm_layers").match(name)
    assert rule == ("layer:softmax", qc.Fixed(0, 1))


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "t5"])
def test_flattened_names_have_the_same_kind(family: str) -> None:
    """As graph tracers write them."""
    for name, kind in expected(FAMILIES[family], 2).items():
        if name != "shared":
            assert layer_kind(name.replace(".", "_")) == kind, name


def test_every_kind_has_names_in_the_main_families() -> None:
    for family in (LLAMA, GPT2, BERT):
        assert set(family) == {*KINDS, None} - {"softmax"}


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_llm_layers_decides_by_kind_and_mse_for_the_rest(family: str) -> None:
    policy = qc.Policy.named("llm_layers")
    strategies = {
        "embedding": qc.MinMax(),
        "attention_qkv": qc.MinMax(),
        "attention_out": qc.MSE(),
        "ffn_up": qc.Percentile(99.999),
        "ffn_down": qc.MSE(),
        "lm_head": qc.MSE(),
        None: qc.MSE(),
    }
    want = expected(FAMILIES[family])
    rules, unused = policy.assign(want)
    assert unused == ()
    for name, kind in want.items():
        rule = "*" if kind is None else f"layer:{kind}"
        assert rules[name] == (rule, strategies[kind]), name


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # of transformers' own imports
@pytest.mark.parametrize(
    ("config", "model", "sizes"),
    [
        ("LlamaConfig", "LlamaForCausalLM", {"num_key_value_heads": 2}),
        ("GPT2Config", "GPT2LMHeadModel", {}),
        ("BertConfig", "BertForMaskedLM", {}),
    ],
)
def test_the_layers_of_published_code_have_their_kinds(
    config: str, model: str, sizes: dict[str, int]
) -> None:
    """Every module with weights of the classes that the checkpoints are made for."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    small = {"num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4}
    with torch.device("meta"):
        made = getattr(transformers, model)(
            getattr(transformers, config)(**small, **sizes)
        )
    counts = {kind: 0 for kind in KINDS if kind != "softmax"}  # it has no module
    for name, module in made.named_modules():
        kinds = (torch.nn.Linear, torch.nn.Embedding, transformers.pytorch_utils.Conv1D)
        if isinstance(module, kinds):
            kind = layer_kind(name)
            assert kind is not None, name
            counts[kind] += 1
        elif "norm" in type(module).__name__.lower():
            assert layer_kind(name) is None, name
    assert (
        counts
        == {
            "LlamaForCausalLM": {
                "embedding": 1,
                "attention_qkv": 9,
                "attention_out": 3,
                "ffn_up": 6,
                "ffn_down": 3,
                "lm_head": 1,
            },
            "GPT2LMHeadModel": {
                "embedding": 2,
                "attention_qkv": 3,
                "attention_out": 3,
                "ffn_up": 3,
                "ffn_down": 3,
                "lm_head": 1,
            },
            "BertForMaskedLM": {
                "embedding": 3,
                "attention_qkv": 9,
                "attention_out": 3,
                "ffn_up": 3,
                "ffn_down": 3,
                "lm_head": 2,
            },
        }[model]
    )
