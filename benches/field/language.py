"""Models of text, speech and images from transformers, small and with random weights, and their adapters from peft."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from case import Batch, Case, returns_loss
from data import digits_as, masked_digits, text, text_with_classes, tones
from torch import nn

__all__ = ["CASES"]

_SIZE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GROUPED = {**_SIZE, "num_key_value_heads": 2, "head_dim": 16}
_EXPERTS = {**_GROUPED, "num_hidden_layers": 3}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def _from(kind: str, model: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, kind)(**options))

    return build


def _case(
    name: str,
    family: str,
    build: Callable[[], nn.Module],
    batches: Callable[[], list[Batch]] = text,
    rate: float = 1e-3,
    **options: Any,
) -> Case:
    return Case(name, family, "transformers", build, batches, returns_loss, rate, **options)


def _masked() -> list[Batch]:
    return text(masked=True)


_LANGUAGE = [
    _case(
        "GPT2",
        "language model",
        _from(
            "GPT2Config", "GPT2LMHeadModel", vocab_size=128, n_embd=64, n_layer=4, n_head=4, n_positions=64, **_SPECIAL
        ),
    ),
    _case("GPTNeoX", "language model", _from("GPTNeoXConfig", "GPTNeoXForCausalLM", **_SIZE, **_SPECIAL)),
    _case("Llama", "language model", _from("LlamaConfig", "LlamaForCausalLM", **_GROUPED, **_SPECIAL)),
    _case("Qwen3", "language model", _from("Qwen3Config", "Qwen3ForCausalLM", **_GROUPED, **_SPECIAL)),
    _case("Gemma2", "language model", _from("Gemma2Config", "Gemma2ForCausalLM", **_GROUPED, **_SPECIAL)),
    _case("Phi3", "language model", _from("Phi3Config", "Phi3ForCausalLM", **{**_GROUPED, **_SPECIAL})),
    _case(
        "Mixtral",
        "language model with experts",
        _from(
            "MixtralConfig",
            "MixtralForCausalLM",
            num_local_experts=4,
            num_experts_per_tok=2,
            output_router_logits=True,
            **_EXPERTS,
            **_SPECIAL,
        ),
    ),
    _case(
        "Qwen3Moe",
        "language model with experts",
        _from(
            "Qwen3MoeConfig",
            "Qwen3MoeForCausalLM",
            num_experts=8,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            decoder_sparse_step=1,
            **_EXPERTS,
            **_SPECIAL,
        ),
    ),
    _case(
        "Mamba",
        "state space",
        _from(
            "MambaConfig",
            "MambaForCausalLM",
            vocab_size=128,
            hidden_size=64,
            state_size=8,
            num_hidden_layers=3,
            **_SPECIAL,
        ),
        lambda: text(16),
    ),
    _case(
        "Mamba2",
        "state space",
        _from(
            "Mamba2Config",
            "Mamba2ForCausalLM",
            vocab_size=128,
            hidden_size=64,
            state_size=8,
            num_hidden_layers=3,
            num_heads=8,
            head_dim=16,
            n_groups=1,
            chunk_size=16,
            **_SPECIAL,
        ),
        lambda: text(16),
    ),
    _case(
        "T5",
        "encoder and decoder",
        _from(
            "T5Config",
            "T5ForConditionalGeneration",
            vocab_size=128,
            d_model=64,
            d_kv=16,
            d_ff=128,
            num_layers=3,
            num_heads=4,
            decoder_start_token_id=0,
        ),
        lambda: text(shift=1),
    ),
    _case(
        "Bart",
        "encoder and decoder",
        _from(
            "BartConfig",
            "BartForConditionalGeneration",
            vocab_size=128,
            d_model=64,
            encoder_layers=3,
            decoder_layers=3,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_position_embeddings=64,
            **_SPECIAL,
        ),
        lambda: text(shift=1),
    ),
    _case("Bert", "encoder", _from("BertConfig", "BertForMaskedLM", **_SIZE), _masked),
    _case(
        "BertForSequenceClassification",
        "encoder",
        _from("BertConfig", "BertForSequenceClassification", **_SIZE),
        text_with_classes,
        1e-4,
    ),
    _case("Roberta", "encoder", _from("RobertaConfig", "RobertaForMaskedLM", **{**_SIZE, **_SPECIAL}), _masked),
    _case(
        "DebertaV2",
        "encoder",
        _from("DebertaV2Config", "DebertaV2ForMaskedLM", relative_attention=True, pos_att_type=["p2c", "c2p"], **_SIZE),
        _masked,
    ),
    _case(
        "ModernBert",
        "encoder",
        _from(
            "ModernBertConfig", "ModernBertForMaskedLM", **{**_SIZE, **_SPECIAL, "cls_token_id": 2, "sep_token_id": 3}
        ),
        _masked,
    ),
]

_SPEECH = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32, 32, 32),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 8, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 32,
    "num_labels": 4,
    "mask_time_prob": 0.0,
    "apply_spec_augment": False,
}


def _spectra() -> list[Batch]:
    import torch

    made = []
    for each in tones(2048):
        spectrum = torch.stft(each["input_values"], 128, 32, window=torch.hann_window(128), return_complex=True)
        made.append(
            {
                "input_features": (spectrum.abs()[:, 1:, :64] + 1e-3).log(),
                "labels": each["labels"][:, None].expand(-1, 4) + 4,
            }
        )
    return made


_OTHERS = [
    _case("Wav2Vec2", "speech", _from("Wav2Vec2Config", "Wav2Vec2ForSequenceClassification", **_SPEECH), tones, 3e-4),
    _case("Hubert", "speech", _from("HubertConfig", "HubertForSequenceClassification", **_SPEECH), tones, 3e-4),
    _case(
        "Whisper",
        "speech",
        _from(
            "WhisperConfig",
            "WhisperForConditionalGeneration",
            vocab_size=128,
            num_mel_bins=64,
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_source_positions=32,
            max_target_positions=16,
            decoder_start_token_id=1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **_SPECIAL,
        ),
        _spectra,
    ),
    _case(
        "ViT",
        "vision transformer",
        _from(
            "ViTConfig",
            "ViTForImageClassification",
            image_size=32,
            patch_size=8,
            num_labels=10,
            hidden_size=64,
            num_hidden_layers=6,
            num_attention_heads=4,
            intermediate_size=128,
        ),
        lambda: digits_as("pixel_values"),
    ),
    _case(
        "Dinov2",
        "vision transformer, layer scale",
        _from(
            "Dinov2Config",
            "Dinov2ForImageClassification",
            image_size=32,
            patch_size=8,
            num_labels=10,
            hidden_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
        ),
        lambda: digits_as("pixel_values"),
    ),
    _case(
        "Segformer",
        "segmentation",
        _from(
            "SegformerConfig",
            "SegformerForSemanticSegmentation",
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 48, 64],
            num_attention_heads=[1, 2, 3, 4],
            decoder_hidden_size=32,
            num_labels=2,
        ),
        lambda: masked_digits(key="pixel_values", size=64),
    ),
]


def _adapted(kind: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import peft

        model = _from("LlamaConfig", "LlamaForCausalLM", **_GROUPED, **_SPECIAL)()
        return peft.get_peft_model(model, getattr(peft, kind)(task_type="CAUSAL_LM", **options))

    return build


_PROJECTIONS = ["q_proj", "v_proj", "up_proj", "lm_head", "embed_tokens"]
_ADAPTERS = [
    Case(
        "LoRA",
        "adapter",
        "peft",
        _adapted("LoraConfig", r=8, lora_alpha=16, target_modules=_PROJECTIONS),
        text,
        returns_loss,
        5e-3,
    ),
    Case(
        "DoRA",
        "adapter",
        "peft",
        _adapted("LoraConfig", r=8, use_dora=True, target_modules=_PROJECTIONS[:3]),
        text,
        returns_loss,
        5e-3,
    ),
    Case(
        "IA3",
        "adapter",
        "peft",
        _adapted("IA3Config", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
        text,
        returns_loss,
        2e-2,
    ),
    Case(
        "prompt tuning",
        "adapter",
        "peft",
        _adapted("PromptTuningConfig", num_virtual_tokens=8),
        text,
        returns_loss,
        2e-2,
    ),
]

_TRAINED_BY_TRL = Case(
    "Llama under trl",
    "fine-tuning",
    "trl",
    _from("LlamaConfig", "LlamaForCausalLM", **_GROUPED, **_SPECIAL),
    text,
    returns_loss,
    loops=("SFTTrainer",),
)

CASES = [*_LANGUAGE, *_OTHERS, *_ADAPTERS, _TRAINED_BY_TRL]
