"""Makers of models of the transformers classes that operators load, with a vocabulary of a few words."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

transformers: Any = import_module("transformers")  # its own types leave out what configurations take

WORDS = ("a", "photo", "of", "red", "green", "disc", "dog", "two", "cats")

#: Where BERT's vocabulary has what Grounding DINO's code looks for by number.
_FIXED = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}


def _save_tokenizer(folder: Path) -> None:
    words = iter(WORDS)
    vocabulary = {_FIXED.get(i) or next(words, f"[unused{i}]"): i for i in range(1030)}
    transformers.BertTokenizer(vocab=vocabulary, model_max_length=32).save_pretrained(folder)


def save_tiny_icc(folder: Path, *, outputs: int = 1) -> Path:
    """Save a one-layer RoBERTa with one output, as ICC is; return its folder."""
    config = transformers.RobertaConfig(
        vocab_size=1030,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        pad_token_id=0,
        type_vocab_size=2,
        num_labels=outputs,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    _save_tokenizer(folder)
    return folder


def save_tiny_detector(folder: Path, kind: str = "GroundingDino") -> Path:
    """Save a very small `GroundingDino` or `MMGroundingDino`; return its folder."""
    backbone = transformers.SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 2],
        window_size=2,
        out_indices=[2, 3, 4],
    )
    text = transformers.BertConfig(
        vocab_size=1030,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    layer = {"attention_heads": 2, "ffn_dim": 16}
    sizes = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in layer.items()}
    config = getattr(transformers, f"{kind}Config")(
        backbone_config=backbone,
        text_config=text,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        d_model=32,
        max_text_len=32,
        **sizes,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForObjectDetection")(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "bbox_embed" in name:  # made as zeros: all boxes would be alike
                weights.normal_(std=0.5)
            elif "class_embed" in name and name.endswith("bias"):  # made so low that nothing is found
                weights.zero_()
    model.save_pretrained(folder)
    transformers.GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 160}).save_pretrained(
        folder
    )
    _save_tokenizer(folder)
    return folder
