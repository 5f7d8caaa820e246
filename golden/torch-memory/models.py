"""Small configurations of Hugging Face's architectures, and the inputs of a training step of each."""

from dataclasses import dataclass
from typing import Callable

import torch
import transformers as hf

VOCABULARY = 1024
LONG = {"batch": 4, "length": 256}
SHORT = {"batch": 1, "length": 32}


@dataclass
class Model:
    """An architecture, what it is trained with, and the linears that get an adapter: as PEFT and as we name them."""

    cls: type
    config: hf.PretrainedConfig
    inputs: Callable[[dict], dict]
    lora: list[str] | str
    targets: list[str]
    long: dict
    short: dict


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, length))


def of_text(case: dict) -> dict:
    """Rows without padding; every position has a label."""
    tokens = ids(case["batch"], case["length"])
    return {"input_ids": tokens, "labels": tokens.clone()}


def of_translation(case: dict) -> dict:
    """A source, and the target that its decoder is to say."""
    return {"input_ids": ids(case["batch"], case["length"]), "labels": ids(case["batch"], case["target_length"])}


def of_images(case: dict) -> dict:
    return {"pixel_values": torch.randn(case["batch"], 3, 120, 120), "labels": torch.randint(0, 10, (case["batch"],))}


def of_speech(case: dict) -> dict:
    """Twice as many frames as positions: the second convolution has a stride of 2."""
    frames = torch.randn(case["batch"], 80, 2 * case["length"])
    return {"input_features": frames, "labels": ids(case["batch"], case["target_length"])}


def model(cls, config, inputs=of_text, lora=("q_proj", "v_proj"), targets=("q", "v"), long=LONG, short=SHORT) -> Model:
    return Model(cls, config, inputs, lora if isinstance(lora, str) else list(lora), list(targets), long, short)


def decoder(config: type, **more) -> hf.PretrainedConfig:
    """The fields that most decoders share."""
    fields = dict(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return config(**{**fields, **more})


# No dropout: on the CPU its mask has the activations' format, where a GPU keeps one byte.
MODELS = {
    "llama": model(hf.LlamaForCausalLM, decoder(hf.LlamaConfig, num_key_value_heads=4)),
    "mistral": model(
        hf.MistralForCausalLM, decoder(hf.MistralConfig, num_key_value_heads=2, head_dim=16, sliding_window=None)
    ),
    "qwen2": model(
        hf.Qwen2ForCausalLM, decoder(hf.Qwen2Config, num_key_value_heads=2, tie_word_embeddings=True)
    ),
    "qwen3": model(hf.Qwen3ForCausalLM, decoder(hf.Qwen3Config, num_key_value_heads=4, head_dim=32)),
    "gemma": model(hf.GemmaForCausalLM, decoder(hf.GemmaConfig, num_key_value_heads=1, head_dim=32)),
    "phi": model(
        hf.PhiForCausalLM, decoder(hf.PhiConfig, intermediate_size=512, resid_pdrop=0.0), targets=["q", "v"]
    ),
    "phi3": model(
        hf.Phi3ForCausalLM,
        decoder(hf.Phi3Config, num_key_value_heads=4),
        lora=["o_proj", "down_proj"],
        targets=["o", "down"],
    ),
    "gpt2": model(
        hf.GPT2LMHeadModel,
        hf.GPT2Config(
            vocab_size=VOCABULARY, n_embd=128, n_layer=4, n_head=8, n_positions=512, bos_token_id=1, eos_token_id=2,
            attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
        ),
        lora=r".*\.(attn\.c_proj|mlp\.c_fc|mlp\.c_proj)",
        targets=["o", "up", "down"],
    ),
    "gpt_neox": model(
        hf.GPTNeoXForCausalLM,
        decoder(hf.GPTNeoXConfig, intermediate_size=512),
        lora=["dense", "dense_h_to_4h", "dense_4h_to_h"],
        targets=["o", "up", "down"],
    ),
    "mixtral": model(
        hf.MixtralForCausalLM,
        decoder(hf.MixtralConfig, intermediate_size=192, num_key_value_heads=4, num_local_experts=8,
                num_experts_per_tok=2, sliding_window=None),
    ),
    "bert": model(
        hf.BertForMaskedLM,
        decoder(hf.BertConfig, intermediate_size=512, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        lora=["query", "value"],
    ),
    "t5": model(
        hf.T5ForConditionalGeneration,
        hf.T5Config(
            vocab_size=VOCABULARY, d_model=128, d_kv=16, d_ff=256, num_layers=4, num_heads=8, dropout_rate=0.0,
            feed_forward_proj="gated-gelu", tie_word_embeddings=False, pad_token_id=0, eos_token_id=1,
            decoder_start_token_id=0,
        ),
        inputs=of_translation,
        lora=["q", "v"],
        long={"batch": 4, "length": 256, "target_length": 128},
        short={"batch": 1, "length": 32, "target_length": 16},
    ),
    "vit": model(
        hf.ViTForImageClassification,
        hf.ViTConfig(
            hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=8, image_size=120,
            patch_size=8, num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        ),
        inputs=of_images,
        long={"batch": 4, "length": 226},
        short={"batch": 1, "length": 226},
    ),
    "whisper": model(
        hf.WhisperForConditionalGeneration,
        hf.WhisperConfig(
            vocab_size=VOCABULARY, d_model=128, encoder_layers=4, decoder_layers=4, encoder_attention_heads=8,
            decoder_attention_heads=8, encoder_ffn_dim=512, decoder_ffn_dim=512, max_source_positions=256,
            max_target_positions=128, dropout=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=1,
        ),
        inputs=of_speech,
        long={"batch": 4, "length": 256, "target_length": 128},
        short={"batch": 1, "length": 256, "target_length": 16},
    ),
}
