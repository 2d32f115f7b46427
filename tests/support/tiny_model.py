"""A language model of a few hundred kilobytes for a real model server: random weights, whole words, no end of its own.

It is made here, by the writer of llama.cpp's own file format: nothing is downloaded, and it says nothing sensible.
One dimension of what it carries from word to word is the same for every word. The bytes and marks that make no word
weigh strongly against that dimension, so that it writes words only, and goes on until it is told to stop.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.process import missing

WORDS = ("anna", "brought", "the", "grüne", "lamp", "home", "🙂", "and", "rain", "fell", "über", "all", "roofs", "日本")
WIDTH, HEADS, LAYERS, INNER, CONTEXT = 64, 4, 2, 96, 65_536
NEVER = -50.0


def write(path: Path) -> Path:
    """Write the model to `path`. Skips the test where the writer cannot be installed."""
    try:
        import gguf
        import numpy as np
    except ImportError:
        missing("there is no gguf here to make a model with")

    chance = np.random.default_rng(7)
    letters = _letters()
    marks = ["<|im_start|>", "<|im_end|>"]
    words = ["".join(letters[byte] for byte in f" {word}".encode()) for word in WORDS]
    pair = letters[ord("t")] + letters[ord("h")]
    tokens = [*letters, pair, *words, *marks]
    silent = [token not in words for token in tokens]

    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(len(tokens))
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if token in marks else gguf.TokenType.NORMAL for token in tokens]
    out.add_token_types(kinds)
    out.add_token_merges([f"{letters[ord('t')]} {letters[ord('h')]}"])  # the loader wants one at least
    out.add_eos_token_id(tokens.index("<|im_end|>"))
    out.add_bos_token_id(tokens.index("<|im_start|>"))
    out.add_add_bos_token(False)

    def some(*shape: int, scale: float = 0.1) -> np.ndarray:
        return chance.normal(0, scale, shape).astype(np.float32)

    known = some(len(tokens), WIDTH)
    known[:, 0] = 1.0
    last = some(len(tokens), WIDTH, scale=0.5)
    last[:, 0] = np.where(silent, NEVER, 0.0)
    out.add_tensor("token_embd.weight", known)
    out.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    out.add_tensor("output.weight", last)
    for layer in range(LAYERS):
        for part, shape in {
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH, WIDTH),
            "attn_v": (WIDTH, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (INNER, WIDTH),
            "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }.items():
            weights = some(*shape)
            if part in ("attn_output", "ffn_down"):
                weights[0, :] = 0.0  # nothing is added to the dimension that keeps it to words
            out.add_tensor(f"blk.{layer}.{part}.weight", weights)
        for norm in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _letters() -> list[str]:
    """The 256 bytes as this kind of vocabulary spells them: printable ones as themselves, the others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
